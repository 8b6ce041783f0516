"""Where images to predict on come from."""

from focus_detr.inference.sources.files import Sources, expand_sources
from focus_detr.inference.sources.named import NamedImage

__all__ = ["NamedImage", "Sources", "expand_sources"]
