"""Good images become a model file: split, fit, calibrate, write, export."""
