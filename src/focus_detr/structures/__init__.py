"""What flows through a detector: plain data, imported by all and importing nothing of ours."""
