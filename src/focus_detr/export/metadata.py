"""What an exported file says about itself: class names, preprocessing, and the batches it takes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from focus_detr._version import __version__
from focus_detr.errors import FocusDetrError
from focus_detr.export.budgets import TakenBudgets
from focus_detr.images.preprocessing import ArrayProcessor
from focus_detr.structures.pixel_masks import HEAD

KEY = "focus_detr"
"""Under this name the metadata lie in the file, as JSON."""
SIZE_STEP = 32
"""Where not every size is possible, free heights and widths are multiples of this."""
LARGEST_SIDE = 4096


class FreeSizeError(FocusDetrError):
    """A model cannot be traced with image sizes that stay free."""


@dataclass(frozen=True)
class Metadata:
    """Contents of the file beside the graph.

    Attributes:
        class_names: by label.
        category_ids: the training data's own category ids by label, where known.
        score_threshold: the model's own lowest score reported; None for the package's default.
        class_thresholds: that of classes which have one of their own, by name.
        num_detections: detections an image at most.
        image_processor: settings of `FocusDetrImageProcessor`.
        image_size: (height, width) the graph is fixed to; None where free, in multiples of `size_step`.
        batch_size: the batch the graph is fixed to; None where free.
        version: of the package that wrote the file.
        budgets: how budgets become an input of the graph; None where it has none.
        heads: those whose answers are outputs of the graph, too; "masks" alone can be.
        size_step: what free sizes are multiples of, 1 or `SIZE_STEP`.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    score_threshold: float | None
    num_detections: int
    image_processor: dict[str, Any]
    image_size: tuple[int, int] | None
    batch_size: int | None
    version: str = __version__
    budgets: TakenBudgets | None = None
    heads: tuple[str, ...] = ()
    size_step: int = SIZE_STEP
    class_thresholds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: Any,
        processor: ArrayProcessor,
        image_size: tuple[int, int] | None,
        batch_size: int | None,
        budgets: TakenBudgets | None = None,
        size_step: int = SIZE_STEP,
    ) -> Metadata:
        """Of a model's configuration and image processor."""
        settings = processor.settings()
        if image_size is not None:
            settings |= {"do_resize": True, "size": {"height": image_size[0], "width": image_size[1]}}
        settings["pad_divisor"] = 1
        return cls(
            class_names=tuple(config.id2label[label] for label in sorted(config.id2label)),
            category_ids=None if config.category_ids is None else tuple(config.category_ids),
            score_threshold=config.score_threshold,
            num_detections=config.num_detections,
            image_processor=settings,
            image_size=image_size,
            batch_size=batch_size,
            budgets=budgets,
            heads=tuple(name for name in config.heads if name == HEAD),
            size_step=size_step,
            class_thresholds=dict(config.class_thresholds),
        )

    @property
    def outputs(self) -> list[str]:
        """Names of what the graph gives."""
        masks = [f"{HEAD}_kernels", f"{HEAD}_pixels"] if HEAD in self.heads else []
        return ["logits", "pred_boxes", *masks]

    @property
    def id2label(self) -> dict[int, str]:
        """Class names by label, as in a model's configuration."""
        return dict(enumerate(self.class_names))

    def processor(self) -> ArrayProcessor:
        """The image processor that makes what the graph takes."""
        if self.image_size is not None:
            return ArrayProcessor(**self.image_processor)
        return SteppedImageProcessor(self.size_step, **self.image_processor)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | None, path: Path) -> Metadata:
        """Raises `FocusDetrError` where the file at `path` holds no such text, or a newer one."""
        if not text:
            raise FocusDetrError(
                f"{path}: holds no focus-detr metadata (class names, preprocessing), so it was not written "
                "by `focus-detr export`, or another tool removed them. Export the model again."
            )
        older: dict[str, Any] = {"budgets": None, "heads": (), "size_step": SIZE_STEP, "class_thresholds": {}}
        values = {**older, **json.loads(text)}  # which older files lack
        known = {each.name for each in fields(cls)}
        if set(values) != known:
            raise FocusDetrError(
                f"{path}: written by focus-detr {values.get('version')}, whose metadata this version "
                f"({__version__}) does not know. Export the model again."
            )
        for name in ("class_names", "category_ids", "image_size", "heads"):
            values[name] = None if values[name] is None else tuple(values[name])
        if values["budgets"] is not None:
            values["budgets"] = TakenBudgets.from_dict(values["budgets"])
        return cls(**values)


class SteppedImageProcessor(ArrayProcessor):
    """Resizes as the model's own, then to the nearest multiples of a step that graphs take."""

    def __init__(self, size_step: int = SIZE_STEP, **settings: Any) -> None:
        super().__init__(**settings)
        self.size_step = size_step

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size is resized to."""
        height, width = super().size_of(height, width)
        return stepped(height, self.size_step), stepped(width, self.size_step)


def smallest_side(size_step: int) -> int:
    """Of a free size. Where all are possible, a coarsest level of one cell would be a graph of its own."""
    return 64 if size_step > 1 else 65


def stepped(length: int, size_step: int) -> int:
    """The length of a side as a graph of free size takes it."""
    return min(max(round(length / size_step) * size_step, smallest_side(size_step)), LARGEST_SIDE)
