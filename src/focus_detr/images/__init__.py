"""Images: read from files, made ready for the model, and boxes made of its answers."""
