"""What a spread is worth: metrics, calibration and novelty."""
