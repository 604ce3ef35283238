"""What stands out among images before a model is trained on them."""
