"""Where `write_shards` is imported from by scripts; its home is `data.writing.shards`."""

from focus_detr.data.writing.shards import write_shards

__all__ = ["write_shards"]
