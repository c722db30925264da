"""What methods are compared: how each is trained and what it predicts."""
