"""What a prediction gives: the objects of one image, or why there is no image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference.choosing import Threshold, lowest_scores
from focus_detr.printable import printable, unicode_name
from focus_detr.structures.classes import Classes, reported_classes
from focus_detr.structures.frame import Frame
from focus_detr.structures.instances import Instances
from focus_detr.structures.of_torch import is_tensor
from focus_detr.structures.pixel_masks import PixelMasks

if TYPE_CHECKING:
    import supervision
    from torch import Tensor


@dataclass(frozen=True)
class BadImage:
    """A source that gave no image, and why. Runs report it and go on.

    `earlier`: an interrupted run, which goes on now, found it.
    """

    path: str
    reason: str
    earlier: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"path": unicode_name(self.path), "error": printable(self.reason)}


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one image, best first.

    Attributes:
        path: file, URL or name of the image.
        instances: the objects, with scores, in pixels of the original (upright) image; labels are positions
            in `names`.
        names: the model's class names, by label.
        image_size: (height, width) of the original image in pixels.
        image_id: the data set's id of the image, where there is one.
        image: the image itself, kept only on request.
        frame: its place in a video, where it is of one.
        budget: mean share of tokens that an encoder layer worked on, where it was chosen for this picture.
        latency: seconds from the picture in memory to its detections, where a deadline was given.
        earlier: an interrupted run, which goes on now, found them, and has written what is written of them.
        foretold: the boxes are where tracks said they would be; nobody looked at this image.
        counted: at the lines and in the zones of a video until this frame (see `tracking.Counts`).
    """

    path: str
    instances: Instances
    names: Sequence[str]
    image_size: tuple[int, int]
    image_id: int | None = None
    image: Image.Image | None = field(default=None, repr=False)
    frame: Frame | None = None
    budget: float | None = None
    latency: float | None = None
    earlier: bool = False
    foretold: bool = False
    counted: Mapping[str, Any] | None = None

    @classmethod
    def from_tensors(
        cls, objects: Mapping[str, Tensor], names: Sequence[str], image_size: tuple[int, int], path: str = ""
    ) -> Detections:
        """From what `post_process_object_detection` gives for one image."""
        tensors = {name: value.detach().cpu() for name, value in objects.items()}
        arrays = {n: (t.float() if t.is_floating_point() else t).numpy() for n, t in tensors.items()}
        return cls.of_found(arrays, names, image_size, path)

    @classmethod
    def of_found(
        cls, objects: Mapping[str, Any], names: Sequence[str], image_size: tuple[int, int], path: str = ""
    ) -> Detections:
        """As `from_tensors`, of arrays or tensors."""
        if any(is_tensor(value) for value in objects.values()):
            return cls.from_tensors(objects, names, image_size, path)
        queries = objects.get("queries")
        instances = Instances(
            boxes_xyxy=np.asarray(objects["boxes"], dtype=np.float32).reshape(-1, 4),
            labels=np.asarray(objects["labels"], dtype=np.int64),
            scores=np.asarray(objects["scores"], dtype=np.float32),
            queries=None if queries is None else np.asarray(queries),
        )
        return cls(path=path, instances=instances, names=names, image_size=image_size)

    def with_masks(self, pixel_masks: PixelMasks, index: int) -> Detections:
        """These objects with the masks that their queries say in image ``index`` of a batch."""
        queries = self.instances.queries
        assert queries is not None
        masks = pixel_masks.masks(index, queries, self.boxes_xyxy, self.image_size)
        return replace(self, instances=replace(self.instances, masks=masks))

    def __post_init__(self) -> None:
        if self.instances.scores is None:
            raise FocusDetrError(f"{self.path}: detections need scores, which these objects have not")

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """(T,4) float32, pixels of the original (upright) image."""
        return self.instances.boxes_xyxy

    @property
    def scores(self) -> np.ndarray:
        """(T,) float32, 0..1."""
        return cast(np.ndarray, self.instances.scores)

    @property
    def labels(self) -> np.ndarray:
        """(T,) int64, positions in `names`."""
        return self.instances.labels

    @property
    def track_ids(self) -> np.ndarray | None:
        """(T,) int64, the same from frame to frame, -1 for those that have none; None without tracking."""
        return self.instances.track_ids

    @property
    def masks(self) -> np.ndarray | None:
        """(T,) a `Mask` of each object, to be decoded at `image_size`; None from models without masks."""
        return self.instances.masks

    @property
    def class_names(self) -> list[str]:
        """The class name of every object."""
        return [self.names[label] for label in self.labels]

    def filter(self, threshold: Threshold | None = None, classes: Classes | None = None) -> Detections:
        """Those that score at least `threshold` and are of `classes` (names or labels).

        A threshold by class holds for these classes only. Classes by new names are reported so; where that
        merges the classes of one box, its best one stays. Both count by the names that there are before.
        """
        keep = np.ones(len(self), dtype=bool)
        if isinstance(threshold, Mapping):
            keep &= self.scores >= lowest_scores(threshold, self.names, 0.0)[self.labels]
        elif threshold is not None:
            keep &= self.scores >= threshold
        if classes is None:
            return replace(self, instances=self.instances[keep])
        label_of, names = reported_classes(classes, self.names)
        labels = label_of[self.labels]
        keep &= labels >= 0
        instances = replace(self.instances, labels=labels)[keep]
        if isinstance(classes, Mapping):
            # A query may give several classes, each with the same box to the bit.
            rows = np.column_stack([instances.labels, instances.boxes_xyxy])
            instances = instances[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
        return replace(self, instances=instances, names=names)

    def counts(self) -> dict[str, int]:
        """Objects of each class found, in the order of the model's classes."""
        found = Counter(self.labels.tolist())
        return {self.names[label]: found[label] for label in sorted(found)}

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON."""
        height, width = self.image_size
        objects: list[dict[str, Any]] = [
            {"label": int(label), "name": self.names[label], "score": float(score), "box_xyxy": box.tolist()}
            for label, score, box in zip(self.labels, self.scores, self.boxes_xyxy, strict=True)
        ]
        for item, number in zip(objects, self.track_numbers(), strict=False):
            item["track_id"] = number
        for item, mask in zip(objects, self._run_lengths(), strict=False):
            item["mask"] = mask
        identity = {} if self.image_id is None else {"image_id": self.image_id}
        frame = self.frame
        place = {} if frame is None else {"frame": frame.index, "seconds": frame.seconds}
        chosen = {"budget": self.budget, "latency": self.latency}
        return {
            "path": unicode_name(self.path),
            **identity,
            **place,
            **({"foretold": True} if self.foretold else {}),
            **({} if self.counted is None else {"counted": dict(self.counted)}),
            "width": width,
            "height": height,
            **{name: value for name, value in chosen.items() if value is not None},
            "objects": objects,
        }

    def track_numbers(self) -> list[int | None]:
        """`track_ids` as plain numbers, None for objects that have none; empty without tracking."""
        ids = self.track_ids
        return [] if ids is None else [number if number >= 0 else None for number in ids.tolist()]

    def _run_lengths(self) -> list[dict[str, Any] | None]:
        """COCO's, of every object; empty without masks."""
        masks = self.masks
        return [] if masks is None else [mask and mask.to_coco(self.image_size) for mask in masks]

    def to_coco(
        self, image_id: int | None = None, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO results: one dict an object, `bbox` as (left, top, width, height) in pixels; its mask, as
        compressed run lengths, in `segmentation`; the number of its track in `attributes`.

        Args:
            image_id: id of the image; by default the one it came with.
            category_ids: the data set's own category ids by label; by default the labels themselves.
        """
        image_id = self.image_id if image_id is None else image_id
        if image_id is None:
            raise FocusDetrError(f"{self.path}: has no image_id; pass to_coco(image_id=...)")
        entries: list[dict[str, Any]] = [
            {
                "image_id": image_id,
                "category_id": int(label if category_ids is None else category_ids[label]),
                "bbox": [left, top, right - left, bottom - top],
                "score": float(score),
            }
            for label, score, (left, top, right, bottom) in zip(
                self.labels, self.scores, self.boxes_xyxy.astype(np.float64).tolist(), strict=True
            )
        ]
        for entry, number in zip(entries, self.track_numbers(), strict=False):
            if number is not None:
                entry["attributes"] = {"track_id": number}
        for entry, mask in zip(entries, self._run_lengths(), strict=False):
            if mask is not None:
                entry["segmentation"] = mask
        return entries

    def to_supervision(self) -> supervision.Detections:
        """As `supervision.Detections`, class names under `data["class_name"]`; masks as bitmaps."""
        try:
            import supervision
        except ImportError as error:
            raise FocusDetrError(
                "to_supervision() needs the package supervision: pip install 'focus-detr[supervision]'"
            ) from error
        masks = self.masks
        none = np.zeros((0, *self.image_size), dtype=bool)
        return supervision.Detections(
            xyxy=self.boxes_xyxy.astype(np.float32),
            confidence=self.scores.astype(np.float32),
            class_id=self.labels.astype(int),
            tracker_id=self.track_ids,
            mask=None
            if masks is None
            else np.concatenate([none, *(mask.decode(self.image_size)[None] for mask in masks)]),
            data={"class_name": np.array(self.class_names, dtype=str)},
        )
