"""Backbones: image to feature maps, with what belongs to each pretrained weight."""
