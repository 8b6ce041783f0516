"""Where images to predict on come from."""

from focus_detr.inference.sources.files import NamedImage, Sources, expand_sources

__all__ = ["NamedImage", "Sources", "expand_sources"]
