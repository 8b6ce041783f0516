"""COCO, YOLO and Pascal VOC: files to records."""
