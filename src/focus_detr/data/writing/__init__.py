"""Records to files: COCO, YOLO, Pascal VOC or shards, and what a format could not hold said."""

from focus_detr.data.writing.changes import Changes
from focus_detr.data.writing.shards import write_shards
from focus_detr.data.writing.write import write_dataset

__all__ = ["Changes", "write_dataset", "write_shards"]
