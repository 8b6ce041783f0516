"""export(): a model to one file that other runtimes read."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.disk import explained_disk
from focus_detr.errors import FocusDetrError
from focus_detr.export.budgets import ANY, TakenBudgets, has_regular_levels
from focus_detr.export.metadata import SIZE_STEP, FreeSizeError, Metadata
from focus_detr.folders import from_home, unused_folder, whole_files, writable_folder
from focus_detr.images.settings import setting_named
from focus_detr.structures.budget import AUTO

if TYPE_CHECKING:
    from focus_detr.export.tolerance import Tolerance
    from focus_detr.images.processor import FocusDetrImageProcessor
    from focus_detr.inference.sources.files import Sources
    from focus_detr.models import FocusDetrForObjectDetection
    from focus_detr.structures.auto_budget import BudgetLike

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FORMATS = ("onnx", "openvino", "torch-export", "tensorrt", "triton", "web")
FOLDERS = ("triton", "web")
"""Formats that are a folder."""
_EIGHT_BITS = ("onnx", "openvino")
_ANY_SIZE = ("onnx", "torch-export", "web")
"""Formats whose free sizes are tried without a step, where counts are fixed and no heads are added."""
_TOGETHER = (
    "precision='int8' and calibration=PICTURES go together: give both, or neither; a model trained for 8 "
    "bits (train --eight-bits) needs none"
)
_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2", "tensorrt": ".onnx"}


def suffix_of(format: str) -> str:
    """How the name of a file of ``format`` ends; that of a folder is free."""
    if format not in FORMATS:
        raise FocusDetrError(f"format={format!r}: not known; use one of {', '.join(FORMATS)}")
    return _SUFFIXES.get(format, "")


def export(
    model: FocusDetrForObjectDetection | str | os.PathLike[str],
    output: str | os.PathLike[str],
    format: str = "onnx",
    *,
    image_size: Sequence[int] | None = None,
    batch_size: int | None = None,
    budget: BudgetLike = None,
    decoder_layers: int | None = None,
    setting: str | None = None,
    precision: str = "fp32",
    calibration: Sources | None = None,
    max_drop: float | None = None,
    data: str | os.PathLike[str] | None = None,
    split: str = "val",
    page_budgets: Sequence[float] = (),
    examples: Sequence[str | os.PathLike[str]] = (),
    processor: FocusDetrImageProcessor | None = None,
    trust_plugins: bool = False,
) -> Path:
    """Write a model to a file with its class names and preprocessing; `load_exported` reads it.

    Format "web" writes a folder instead, which any web server serves: a page that runs the model in the
    browser, on ONNX Runtime Web, which is downloaded on first use. "triton" writes a model repository of
    Triton Inference Server, named as the model.

    Args:
        model: a model, or the name or folder of one.
        output: file to write: .onnx, .xml for OpenVINO (its weights go into a .bin beside it), .pt2 for
            torch-export; for "web" and "triton" a folder, new or empty.
        format: one of `FORMATS`. "tensorrt" writes ONNX for TensorRT's parser and a script beside it that
            builds an engine where TensorRT is installed.
        image_size: (height, width) to fix in the graph; images are stretched to it. None leaves it free, in
            multiples of 32 to which images are resized where not every size is possible.
        batch_size: number of images to fix in the graph; None leaves it free.
        budget: mean share of tokens that an encoder layer works on; the model's own when not given. "any"
            makes it an input of the graph, of formats "onnx" and "openvino" (`focus_detr.export.budgets`).
        decoder_layers: write so many of the model's decoder layers, the first ones; what it is set to when
            not given, or all.
        setting: name of one of the model's settings, whose resolution, budget and decoder layers the file
            has; what is said beside it goes before.
        precision: "fp16" or "bf16" for half-precision weights in matrix products and convolutions. Scores,
            selection, coordinates, softmax and norms stay float32, as inputs and outputs do. "int8", of
            formats "onnx" and "openvino", computes the same part in 8 bits, in ranges measured on pictures.
        calibration: for "int8", 10 to 300 pictures like those the model will see (files, folders, patterns);
            not needed of a model trained for 8 bits, whose own ranges are then taken.
        max_drop: for "int8", the AP (0..1) that may be lost to the same file in float32: the blocks that cost
            most are computed in float32 until no more is (`focus_detr.export.tolerance`).
        data, split: with it, a labelled data set to measure that on, other than the one reported on.
        page_budgets: for "web", budgets that its page offers beside; their graphs share one file of weights.
        examples: for "web", pictures that its page offers; the package's own when not given.
        processor: of a model given as an object.
        trust_plugins: of a model given by name, import the modules it names, which runs their code.

    Returns:
        The file, or the folder.

    Raises:
        FocusDetrError: an option cannot be used, or a package is missing (extra `export`).
    """
    path = _checked_output(from_home(Path(output)), format)
    size, batch = _checked_shape(format, image_size, batch_size)
    if precision not in PRECISIONS:
        raise FocusDetrError(f"precision={precision!r}: not known; use one of {', '.join(PRECISIONS)}")
    if precision != "int8" and calibration is not None:
        raise FocusDetrError(_TOGETHER)
    if precision == "int8" and format not in _EIGHT_BITS:
        raise FocusDetrError(
            f"precision='int8': only of format {' and '.join(map(repr, _EIGHT_BITS))}, not {format!r}"
        )
    if (max_drop is None) != (data is None):
        raise FocusDetrError("max_drop=AP and data=DATA go together: give both, or neither")
    if max_drop is not None and precision == "int8" and calibration is None:
        raise FocusDetrError(
            "max_drop: blocks are given back of ranges that are measured; add calibration=PICTURES"
        )
    if max_drop is not None and precision != "int8":
        raise FocusDetrError(f"max_drop: only of precision 'int8', not {precision!r}")
    for option, given in (("page_budgets", page_budgets), ("examples", examples)):
        if given and format != "web":
            raise FocusDetrError(f"{option}: only of format 'web', not {format!r}")
    writer = _writer(format)
    options: dict[str, Any] = {}
    if format in FOLDERS:
        options["name"] = _name_of(model)
    if format == "web":
        options["budgets"] = page_budgets
        options["examples"] = [from_home(Path(example)) for example in examples]
    if calibration is not None:
        from focus_detr.export.quantization import readable

        options["pictures"] = readable(calibration)
    if budget == ANY:
        _check_any(format, precision)
    model, processor = _load(model, processor, trust_plugins)
    if setting is not None:
        chosen = setting_named(model.config.settings, setting)
        if chosen.size is not None and image_size is None:
            processor = type(processor)(**{**processor.settings(), "size": chosen.size})
        budget = chosen.budget if budget is None else budget
        decoder_layers = chosen.decoder_layers if decoder_layers is None else decoder_layers
    if budget is not None and budget != ANY:
        model.set_budget(budget)
    if decoder_layers is not None:
        model.set_decoder_layers(decoder_layers)
    if model.config.budget == AUTO:
        raise FocusDetrError(
            f"budget={AUTO!r}: a graph cannot choose by the picture; give a number, as in --budget 0.3"
        )
    if precision == "int8" and calibration is None:
        options["trained_ranges"] = True
        _mark(model)
    budgets = TakenBudgets.of(model, size) if budget == ANY else None
    prepare(model, precision)

    every = size is None and budgets is None and not model.config.heads and format in _ANY_SIZE
    step = _size_step(model, processor) if every else SIZE_STEP
    metadata = Metadata.of(model.config, processor, size, batch, budgets, step)

    if max_drop is not None and data is not None:
        options["tolerance"] = _tolerance(metadata, max_drop, data, split)

    def written(target: Path) -> None:
        try:
            writer(model, target, metadata, **options)
        except FreeSizeError:
            if step == SIZE_STEP:
                raise
            # Some backbones pad by the size, which a graph of every size cannot.
            writer(model, target, replace(metadata, size_step=SIZE_STEP), **options)

    with explained_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if format in FOLDERS:  # which make theirs beside, too
            written(path)
        else:
            with whole_files(path.parent) as writing:
                written(writing / path.name)
    return path


def _mark(model: FocusDetrForObjectDetection) -> None:
    if not model.config.activation_ranges:
        raise FocusDetrError(_TOGETHER)
    from focus_detr.export.trained_ranges import mark_ranges

    mark_ranges(model, model.config.activation_ranges)


def _tolerance(metadata: Metadata, max_drop: float, data: str | os.PathLike[str], split: str) -> Tolerance:
    from focus_detr.data import load_dataset
    from focus_detr.export.tolerance import Tolerance

    return Tolerance(max_drop, load_dataset(from_home(Path(data)), split, classes=metadata.class_names))


def _size_step(model: FocusDetrForObjectDetection, processor: FocusDetrImageProcessor) -> int:
    """What free sizes are multiples of: 1 where it makes a difference, and levels follow from strides."""
    from focus_detr.models.backbones.efficientnet_lite import EfficientNetLiteConfig

    multiple = processor.size.get("multiple", 1) if processor.do_resize else 1
    if multiple % SIZE_STEP == 0:
        return SIZE_STEP  # as its images are, anyway
    if model.backbone.config.model_type == EfficientNetLiteConfig.model_type:
        return SIZE_STEP  # pads even sides otherwise than odd ones, which takes a graph each
    return 1 if has_regular_levels(model) else SIZE_STEP


def _check_any(format: str, precision: str) -> None:
    if format not in ("onnx", "openvino") or precision == "int8":
        what = "precision 'int8'" if precision == "int8" else f"format {format!r}"
        raise FocusDetrError(
            f"budget={ANY!r}: {what} has its budget fixed in the file; give a number, or take format 'onnx' "
            "or 'openvino' in another precision"
        )


def _checked_output(path: Path, format: str) -> Path:
    suffix = suffix_of(format)
    if format in FOLDERS:
        return unused_folder(path)
    if path.suffix != suffix:
        raise FocusDetrError(f"{path}: the name of a file of format {format!r} ends in {suffix}")
    if path.is_dir():
        raise FocusDetrError(f"{path}: is a folder; give the name of the file to write")
    writable_folder(path.parent)
    return path


def _name_of(model: Any) -> str:
    from focus_detr.zoo.resolve import resolve_model

    return resolve_model(model).name if isinstance(model, str | os.PathLike) else "model"


def _writer(format: str) -> Callable[..., None]:
    if format == "web":
        from focus_detr.export.web import write as write_page

        return write_page
    if format == "triton":
        from focus_detr.export.triton import write as write_repository

        return write_repository
    if format == "torch-export":
        from focus_detr.export.torch_export import write
    elif format == "openvino":
        from focus_detr.export.openvino import write
    elif format == "tensorrt":
        from focus_detr.export.tensorrt import write
    else:
        from focus_detr.export.onnx import write
    return write


def _load(
    model: FocusDetrForObjectDetection | str | os.PathLike[str],
    processor: FocusDetrImageProcessor | None,
    trust_plugins: bool,
) -> tuple[FocusDetrForObjectDetection, FocusDetrImageProcessor]:
    from focus_detr.zoo.loading import load_image_processor, load_model
    from focus_detr.zoo.resolve import resolve_model

    if isinstance(model, str | os.PathLike):
        folder = resolve_model(Path(model) if isinstance(model, os.PathLike) else model)
        if folder.is_file():
            raise FocusDetrError(f"{folder}: is exported already; export the model it was made from")
        processor = processor or load_image_processor(folder)
        loaded = load_model(folder, trust_plugins=trust_plugins)
    else:
        if processor is None:
            raise FocusDetrError("export: a model given as an object needs processor=FocusDetrImageProcessor")
        loaded = copy.deepcopy(model)
    return loaded.float().cpu().eval(), processor


def prepare(model: FocusDetrForObjectDetection, precision: str) -> None:
    """Fold what is constant, and lower what may be coarse, in place."""
    import torch

    from focus_detr.deploy.fusion import fuse_convolutions, replace_modules
    from focus_detr.deploy.precision import to_half_precision
    from focus_detr.models.nested import NestedFeedForward

    # Half precision has nothing to gain from batch norms between its convolutions.
    fuse_convolutions(model.backbone)
    fuse_convolutions(model.neck)
    replace_modules(model, (NestedFeedForward,), NestedFeedForward.split)
    if precision in ("fp16", "bf16"):
        to_half_precision(model, torch.float16 if precision == "fp16" else torch.bfloat16)


def _checked_shape(
    format: str, image_size: Sequence[int] | None, batch_size: int | None
) -> tuple[tuple[int, int] | None, int | None]:
    """Image size and batch size as the graph has them; None is free."""
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise FocusDetrError(f"batch_size={batch_size!r}: must be a whole number, 1 or more")
    if format == "web":
        if batch_size not in (None, 1):
            raise FocusDetrError(f"batch_size={batch_size}: a page of format 'web' takes pictures one by one")
        batch_size = 1
    if image_size is None:
        if format == "tensorrt":
            raise FocusDetrError(
                "image_size: TensorRT needs it fixed, as the number of tokens kept must be a constant of the "
                "engine; add --size HEIGHTxWIDTH"
            )
        return None, batch_size
    sides = tuple(image_size) if isinstance(image_size, Sequence) else ()
    if len(sides) != 2 or any(type(side) is not int or side < 32 for side in sides):
        raise FocusDetrError(
            f"image_size={image_size!r}: must be height and width in pixels, 32 or more each"
        )
    return (sides[0], sides[1]), batch_size
