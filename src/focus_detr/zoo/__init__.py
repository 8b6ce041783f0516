"""Models by name: presets, recipes, and trained models."""
