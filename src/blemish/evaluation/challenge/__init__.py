"""Which synthetic defects a model misses."""
