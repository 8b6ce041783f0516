"""Where images to predict on come from."""
