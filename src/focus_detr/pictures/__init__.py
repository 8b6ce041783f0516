"""Pictures to look at: boxes, heat maps, training samples."""
