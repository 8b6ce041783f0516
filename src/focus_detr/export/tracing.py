"""The model as a graph: what `torch.export` gets to see, and in which form."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from focus_detr.export.metadata import LARGEST_SIDE, SIZE_STEP, FreeSizeError, smallest_side
from focus_detr.models import FocusDetrForObjectDetection
from focus_detr.ops.dispatch import use_backend
from focus_detr.structures.budget import LayerCounts
from focus_detr.structures.pixel_masks import HEAD
from focus_detr.structures.rows import sorted_by_top_k

# Two that save and restore the process's warning filters must not overlap, or one leaves the other's behind.
_one_at_a_time = threading.RLock()

_EXAMPLE_ROWS = 5  # unlike 0 and 1, which would be taken for constants
_EXAMPLE_SIZES = {
    1: (187, 251),
    SIZE_STEP: (192, 256),
}  # unlike in both sides, or they would be taken for one


class _Graph(nn.Module):
    """Unpadded images of one size in, predictions out, what masks are computed from among them."""

    def __init__(self, model: FocusDetrForObjectDetection) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, rows: list[Tensor] | None = None) -> tuple[Tensor, ...]:
        return _predictions(self.model(pixel_values, budget=_counts(rows)))


class _TellingGraph(_Graph):
    """As `_Graph`, and what the model says of itself (see `insights`)."""

    def forward(self, pixel_values: Tensor, rows: list[Tensor] | None = None) -> tuple[Tensor, ...]:
        output = self.model(pixel_values, budget=_counts(rows), with_samples=True)
        return *_predictions(output), *insights(output).values()


def _predictions(output: Any) -> tuple[Tensor, ...]:
    extra = output.extra or {}
    masks = [extra[f"{HEAD}_{name}"] for name in ("kernels", "pixels") if f"{HEAD}_{name}" in extra]
    return output.logits, output.pred_boxes, *masks


def _counts(rows: list[Tensor] | None) -> LayerCounts | None:
    """Counts that a graph has free: they follow from the lengths of inputs.

    That none exceeds the one before goes without saying where each is what a layer has more than the next.
    """
    lengths = [each.shape[0] for each in rows or ()]
    return LayerCounts(tuple(sum(lengths[layer:]) for layer in range(len(lengths)))) if lengths else None


def insights(output: Any) -> dict[str, Tensor]:
    """What outputs of a model called ``with_samples`` say of itself, by name; of some models nothing.

    `foreground`: scores (B,N), 0..1, of the tokens of all levels. `locations` (B,Q,h,L,P,2), in fractions of
    the image, and `shares` (B,Q,h,L,P): where the last decoder layer looked, and how much it took from there.
    """
    told = {}
    if output.plan is not None and output.plan.scores is not None:
        told["foreground"] = output.plan.scores.sigmoid()
    if output.samples:
        told["locations"], told["shares"] = output.samples[-1]
    return told


def trace(
    model: FocusDetrForObjectDetection,
    image_size: tuple[int, int] | None,
    batch_size: int | None,
    *,
    sampler: str,
    stable_sort: bool,
    telling: bool = False,
    free_counts: bool = False,
    size_step: int = SIZE_STEP,
) -> ExportedProgram:
    """The graph of pixel_values (B,3,H,W) -> logits (B,Q,k), pred_boxes (B,Q,4) boxes_cxcywh; of a model with
    masks, their kernels (B,Q,E+6) and pixels (B,E,H,W), too.

    Args:
        model: in evaluation mode, float32, on the CPU.
        image_size, batch_size: fixed in the graph; None leaves them free.
        sampler: the form deformable attention takes (a back end of `focus_detr.ops`).
        stable_sort: sort as torch does; False for TopK, the one sort that runtimes have.
        telling: give what `insights` has, too.
        free_counts: how many tokens layers work on is not fixed: the graph takes as many more inputs as there
            are encoder layers, vectors of as many numbers as the layer works on more tokens than the next.
        size_step: what free sizes are multiples of.
    """
    example = torch.zeros(batch_size or 2, 3, *(image_size or _EXAMPLE_SIZES[size_step]))
    free: dict[int, Any] = {}
    if batch_size is None:
        free[0] = Dim("batch", min=1, max=1024)
    if image_size is None:
        smallest, largest = smallest_side(size_step) // size_step, LARGEST_SIDE // size_step
        for place, name in ((2, "rows"), (3, "columns")):
            side = Dim(name, min=smallest, max=largest)
            free[place] = side if size_step == 1 else size_step * side
    inputs: tuple[Any, ...] = (example,)
    shapes: tuple[Any, ...] = ({**free},)
    options: dict[str, Any] = {}
    if free_counts or size_step == 1:
        # That there are as many tokens is for the caller to see to.
        options["prefer_deferred_runtime_asserts_over_guards"] = True
    if free_counts:
        layers = range(model.config.encoder_layers)
        inputs = (example, [torch.zeros(_EXAMPLE_ROWS + layer) for layer in layers])
        shapes = ({**free}, [{0: Dim.DYNAMIC} for _ in layers])
    try:
        sort = nullcontext() if stable_sort else sorted_by_top_k()
        with use_backend(sampler), sort, torch.no_grad(), quiet():
            graph = _TellingGraph(model) if telling else _Graph(model)
            return torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False, **options)
    except Exception as error:  # torch.export's errors share no base
        if image_size is not None:
            raise
        raise FreeSizeError(
            f"this model ({model.backbone.config.model_type}) cannot be exported with free image sizes: "
            "fix the size, by --size HEIGHTxWIDTH"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters remark on hundreds of nodes; only their errors are for people.

    What other threads log is still heard. Python has one list of warning filters for all threads: their
    warnings are not, and one block runs at a time.
    """
    here = threading.get_ident()

    def heard(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno > logging.WARNING

    handlers = _handlers()
    with _one_at_a_time:
        for handler in handlers:
            handler.addFilter(heard)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            for handler in handlers:
                handler.removeFilter(heard)


def _handlers() -> list[logging.Handler]:
    # torch and NNCF have handlers of their own on several loggers, which pass nothing on.
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    found = [each for logger in loggers if isinstance(logger, logging.Logger) for each in logger.handlers]
    return found if logging.lastResort is None else [*found, logging.lastResort]
