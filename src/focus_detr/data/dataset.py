"""DetectionDataset: the one data set behind COCO, YOLO and VOC."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from focus_detr.data.headers import read_headers
from focus_detr.data.records import Problem, Record, Sample, Severity
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import read_image
from focus_detr.printable import counted, in_line, listed

logger = logging.getLogger(__name__)


class DetectionDataset(Dataset[Sample]):
    """Images with labelled boxes. `dataset[i]` is a `Sample`, read afresh each time.

    `class_names[label]` and `category_ids[label]` give a label's name and the source's own id of it;
    `records` the annotations without pixels; `problems` all that was found wrong so far.
    """

    def __init__(
        self,
        records: list[Record],
        class_names: list[str],
        category_ids: list[int],
        problems: list[Problem] | None = None,
        name: str = "data set",
        split: str = "all",
        format: str = "records",
    ) -> None:
        if not records:
            raise FocusDetrError(f"{name}: the split {split!r} has no usable image.")
        self.records = records
        self.class_names = class_names
        self.category_ids = category_ids
        self.problems = problems if problems is not None else []
        self.name, self.split, self.format = name, split, format
        self._unreadable: set[int] = set()
        self._mis_sized: set[int] = set()

    def with_records(self, records: list[Record], split: str | None = None) -> DetectionDataset:
        """The same data set with some of its records alone."""
        return DetectionDataset(
            records,
            self.class_names,
            self.category_ids,
            self.problems,
            self.name,
            split or self.split,
            self.format,
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`; where its image turns out unreadable, the next one that can be read.

        The failure is reported once, in the log and (in this process) in `problems`.
        """
        count = len(self.records)
        if not -count <= index < count:
            raise IndexError(f"index {index} of {count} images")
        for position in ((index + step) % count for step in range(count)):
            if position not in self._unreadable:
                try:
                    return self.read(position)
                except FocusDetrError as error:
                    self._report_unreadable(position, error)
        raise FocusDetrError(f"{self.name}: none of the {count} images of {self.split!r} can be read.")

    def read(self, index: int) -> Sample:
        """The sample at `index` and no other: raises `FocusDetrError` when its image cannot be read."""
        record = self.records[index]
        image = read_image(record.path)
        # Fractions are of the picture as it is decoded, whatever its header says.
        record.known_size = image.size if record.relative else record.known_size or image.size
        instances, crowds, taught = record.instances.copy(), record.crowds.copy(), record.taught
        if record.known_size != image.size:
            self._report_size(index, image.size)
            instances, crowds = instances.transform(image.size), crowds.transform(image.size)
            taught = None if taught is None else taught.transform(image.size)
        return Sample(
            image=image,
            instances=instances,
            image_id=record.image_id,
            path=record.path,
            orig_size=(image.height, image.width),
            crowds=crowds,
            taught=taught,
        )

    def sizes(self) -> list[tuple[int, int] | None]:
        """(width, height) of every image, in pixels; None where its file cannot be read, which is reported.

        Loading has read those that the annotations do not give; this reads what is still unknown, once.
        """
        unknown = [
            index
            for index, record in enumerate(self.records)
            if record.known_size is None and index not in self._unreadable
        ]
        headers = read_headers([self.records[index].path for index in unknown])
        for index, header in zip(unknown, headers, strict=True):
            if isinstance(header, FocusDetrError):
                self._report_unreadable(index, header)
            else:
                self.records[index].known_size = header.size
        return [record.known_size for record in self.records]

    def _report_unreadable(self, index: int, error: FocusDetrError) -> None:
        self._unreadable.add(index)
        fix = "The next readable image is used in its place."
        self._report("unreadable-image", "error", self.records[index].path, str(error), fix)

    def _report_size(self, index: int, size: tuple[int, int]) -> None:
        if index in self._mis_sized:
            return
        self._mis_sized.add(index)
        record = self.records[index]
        stated = "x".join(map(str, record.size))
        self._report(
            "wrong-size",
            "warning",
            record.path,
            f"is {size[0]}x{size[1]}, not {stated} as the data set says",
            "Its boxes are clipped to the image as it is; correct the size.",
        )

    def _report(self, kind: str, severity: Severity, path: Path, message: str, fix: str) -> None:
        problem = Problem(kind, severity, str(path), message, fix)
        self.problems.append(problem)
        logger.warning("%s", problem)

    def class_counts(self) -> dict[str, int]:
        """Number of boxes of every class, crowd regions left out."""
        labels = np.concatenate([record.labels for record in self.records])
        counts = np.bincount(labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def to_coco(self) -> dict[str, Any]:
        """The data set as a COCO json dictionary, with the source's own category ids; crowds are
        `iscrowd`. Masks that were read are compressed run lengths."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        self.sizes()
        for record in self.records:
            width, height = record.size
            images.append(
                {"id": record.image_id, "file_name": str(record.path), "width": width, "height": height}
            )
            for group, crowd in ((record.instances, 0), (record.crowds, 1)):
                for position, (left, top, right, bottom) in enumerate(group.boxes_xyxy.tolist()):
                    box_area = (right - left) * (bottom - top)
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": record.image_id,
                            "category_id": self.category_ids[group.labels[position]],
                            "bbox": [left, top, right - left, bottom - top],
                            "area": box_area if group.areas is None else float(group.areas[position]),
                            "iscrowd": crowd,
                        }
                    )
                    mask = None if group.masks is None else group.masks[position]
                    if mask is not None:
                        annotations[-1]["segmentation"] = mask.to_coco((height, width))
        categories = [
            {"id": identifier, "name": name}
            for identifier, name in zip(self.category_ids, self.class_names, strict=True)
        ]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def summary(self) -> str:
        """One paragraph: what there is, and what was wrong with it."""
        counts = self.class_counts()
        classes = listed(
            f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1])
        )
        empty = sum(len(record.labels) == 0 for record in self.records)
        crowds = sum(len(record.ignored) for record in self.records)
        text = (
            f"{in_line(self.name)} ({self.format}, {in_line(self.split)}): "
            f"{counted(len(self.records), 'image')}, {counted(sum(counts.values()), 'box', 'boxes')} of "
            f"{counted(len(counts), 'class', 'classes')} ({classes}); {counted(empty, 'image')} "
            "without an object, "
            f"{counted(crowds, 'crowd region')}. "
        )
        if not self.problems:
            return text + "No problems found."
        kinds = Counter((problem.kind, problem.severity) for problem in self.problems)
        found = ", ".join(f"{count} {kind} ({severity})" for (kind, severity), count in kinds.most_common())
        return text + f"Problems: {found}. The first: {self.problems[0]}"

    def __repr__(self) -> str:
        return f"DetectionDataset({Path(self.name).name!r}, {self.split!r}, {len(self)} images)"
