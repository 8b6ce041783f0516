"""Choose who computes multi-scale deformable attention.

Left alone, the fastest back end that can serve the tensors is used. `FOCUS_DETR_MSDA=<name>` in the environment or
`with use_backend("<name>"):` forces one; one that cannot serve is replaced by the reference with one warning.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.ops import reference

BACKENDS = ("reference", "gather", "grid_sample", "cpu", "triton")
ENVIRONMENT_VARIABLE = "FOCUS_DETR_MSDA"

_forced: str | None = os.environ.get(ENVIRONMENT_VARIABLE) or None


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Force the back end `name` inside the block (None: choose freely)."""
    global _forced
    if name is not None:
        _check_name(name, "use_backend")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def multi_scale_deformable_attention(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum values read bilinearly at sampled points of every level, weighted by attention.

    Deformable DETR equation 3, without its projections. A location is x, y in 0..1 of the level; outside it the
    value is zero; pixel = location * size - 0.5 (`align_corners=False`).

    value (B,N,h,C/h), spatial_shapes L pairs (H,W) whose areas sum to N, sampling_locations (B,Q,h,L,P,2),
    attention_weights (B,Q,h,L,P) -> (B,Q,C) in the dtype of value. Positions and weights are computed in float32
    (float64 if value is) whatever dtype they come in. Raises FocusDetrError when the shapes do not fit.
    """
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
    exact = torch.float64 if value.dtype == torch.float64 else torch.float32
    locations, weights = sampling_locations.to(exact), attention_weights.to(exact)
    function = _function(_choose(value))
    return function(value, spatial_shapes, locations, weights)


def _function(name: str) -> Callable[..., Tensor]:
    form = {
        "reference": reference.embedding_bag,
        "gather": reference.gather,
        "grid_sample": reference.grid_sample,
    }[name]

    def in_compute_dtype(value: Tensor, shapes: reference.Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        return form(value.to(locations.dtype), shapes, locations, weights).to(value.dtype)

    return in_compute_dtype


def _choose(value: Tensor) -> str:
    name = _forced
    if name is not None:
        _check_name(name, ENVIRONMENT_VARIABLE)
        if name in ("reference", "gather", "grid_sample"):
            return name
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "grid_sample"
    if torch.compiler.is_compiling():
        return "gather"
    return "reference"


def _check_name(name: str, source: str) -> None:
    if name not in BACKENDS:
        raise FocusDetrError(f"{source}: unknown back end {name!r}; use one of {', '.join(BACKENDS)}")


def _check_shapes(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> None:
    tokens = sum(height * width for height, width in shapes)
    if value.dim() != 4 or value.shape[1] != tokens:
        raise FocusDetrError(
            f"value has shape {tuple(value.shape)}, needed (B,N,h,C/h) with N={tokens}, the tokens of {list(shapes)}"
        )
    batch, _, heads, _ = value.shape
    if weights.dim() != 5 or (weights.shape[0], *weights.shape[2:4]) != (batch, heads, len(shapes)):
        raise FocusDetrError(
            f"attention_weights has shape {tuple(weights.shape)}, "
            f"needed (B,Q,h,L,P) with B={batch}, h={heads}, L={len(shapes)}"
        )
    if tuple(locations.shape) != (*weights.shape, 2):
        raise FocusDetrError(
            f"sampling_locations has shape {tuple(locations.shape)}, needed {(*weights.shape, 2)}: "
            "attention_weights and a last axis x, y"
        )
