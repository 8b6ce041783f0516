"""Augmentation: samples to samples."""
