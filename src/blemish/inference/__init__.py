"""A file judges an image: model files, runtime, predictor, calibration, overlay."""
