"""Records to files: data sets written as COCO, YOLO or Pascal VOC, and what a format could not hold said."""

from focus_detr.data.writing.changes import Changes
from focus_detr.data.writing.write import write_dataset

__all__ = ["Changes", "write_dataset"]
