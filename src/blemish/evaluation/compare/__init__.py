"""Many runs side by side: detectors, settings, thresholds."""
