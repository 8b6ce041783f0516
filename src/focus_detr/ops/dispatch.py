"""Choose who computes multi-scale deformable attention.

Left alone, the fastest back end that can serve the tensors is used. `FOCUS_DETR_MSDA=<name>` in the
environment or `with use_backend("<name>"):` forces one. One that cannot be had is replaced by plain torch,
with one warning.
"""

# Shapes: B images, N tokens of all levels, Q queries, C channels, h heads, L levels, P points, H W height
# and width.

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.ops import reference
from focus_detr.ops.cpu import library
from focus_detr.ops.cpu import operator as cpu
from focus_detr.structures.constant import assume_constant_result
from focus_detr.structures.scoped import Scoped

BACKENDS = ("reference", "gather", "grid_sample", "cpu", "triton")
ENVIRONMENT_VARIABLE = "FOCUS_DETR_MSDA"
_PLAIN_TORCH = ("reference", "gather", "grid_sample")

_forced: Scoped[str | None] = Scoped("msda_backend", os.environ.get(ENVIRONMENT_VARIABLE) or None)


def use_backend(name: str | None) -> AbstractContextManager[None]:
    """Force the back end `name` inside the block; None chooses freely.

    It holds for the thread, or asyncio task, that entered the block, and for tasks made inside it. Other
    threads choose as before: those started inside the block (`contextvars.copy_context().run` hands it on),
    and the backward pass on a GPU, which recomputes checkpointed layers. The environment holds for all. A
    graph that was compiled or exported keeps what held when it was traced.
    """
    if name is not None:
        _check_name(name)
    return _forced.to(name)


def multi_scale_deformable_attention(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum values read bilinearly at sampled points of every level, weighted by attention.

    Deformable DETR equation 3, without its projections. A location is x, y in 0..1 of the level; outside it
    the value is zero; pixel = location * size - 0.5 (`align_corners=False`).

    value (B,N,h,C/h), spatial_shapes L pairs (H,W) whose areas sum to N, sampling_locations (B,Q,h,L,P,2),
    attention_weights (B,Q,h,L,P) -> (B,Q,C) in the dtype of value. Positions and weights are computed in
    float32 (float64 if value is) whatever dtype they come in. Raises FocusDetrError when shapes do not fit.
    """
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
    exact = torch.float64 if value.dtype == torch.float64 else torch.float32
    locations, weights = sampling_locations.to(exact), attention_weights.to(exact)
    inputs = (value, sampling_locations, attention_weights)
    wants_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    name = _choose(value.device.type, value.dtype, _mode(), wants_grad)
    function, stored = _FUNCTIONS[name]
    computed = value if value.dtype in stored else value.to(exact)
    return function(computed, spatial_shapes, locations, weights).to(value.dtype)


def multi_scale_deformable_attention_of_projections(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    references: Tensor,
    projections: Tensor,
    points: int,
) -> Tensor:
    """The operator with softmax and locations inside: what there is of a query never passes through memory.

    value (B,N,h,C/h), references (B,Q,L,2) points or (B,Q,L,4) boxes_cxcywh, projections (B,Q,3*h*L*P): the
    sampling offsets (h,L,P,2), then the logits of the attention weights (h,L,P) -> (B,Q,C).
    It has no gradient, and is there only where `takes_projections(value)`.
    """
    flat = [size for shape in spatial_shapes for size in shape]
    exact = torch.float64 if value.dtype == torch.float64 else torch.float32
    computed = value if value.dtype in _FUNCTIONS["cpu"][1] else value.to(exact)
    result = cpu.msda_cpu_projected(computed, flat, references.to(exact), projections.to(exact), points)
    return result.to(value.dtype)


def takes_projections(value: Tensor) -> bool:
    """Whether the form above can be had: eagerly, on a CPU with the compiled library, without a gradient."""
    if value.device.type != "cpu" or torch.is_grad_enabled() or _mode() != "eager":
        return False
    return _choose("cpu", value.dtype, "eager", False) == "cpu"


@dataclass(frozen=True)
class Backend:
    """One way to compute the operator: whether it can be had here, whether it is the one used, and why."""

    name: str
    available: bool
    active: bool
    reason: str


def describe_backends(device: str | torch.device = "cpu") -> list[Backend]:
    """Every back end as training code on `device` would find it."""
    device_type = torch.device(device).type
    forced = _forced.get()
    active = _pick(forced, device_type, torch.float32, "eager", wants_grad=True)[0]
    why_forced = f"forced by {ENVIRONMENT_VARIABLE} or use_backend"
    result = []
    for name in BACKENDS:
        problem = _problem(name, device_type)
        reason = problem or _DESCRIPTIONS[name]
        if name == "cpu" and not problem:
            reason += f", {library.best_instruction_set()} instructions"
        if name == active:
            chosen = f"the fastest that serves {device_type} tensors"
            reason += f"; {why_forced if forced == name else chosen}"
        result.append(Backend(name, not problem, name == active, reason))
    return result


_DESCRIPTIONS = {
    "reference": "plain torch, always there: embedding_bag over bilinear corners",
    "gather": "plain torch, for exports whose target lacks or misreads GridSample",
    "grid_sample": "plain torch, for exports and as the baseline of benchmarks",
    "cpu": "C++ threads",
    "triton": "Triton kernels",
}


def _triton(value: Tensor, shapes: reference.Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    # By name: the module that registers it imports Triton, and is imported only when chosen.
    flat = [size for shape in shapes for size in shape]
    result: Tensor = torch.ops.focus_detr.msda_triton(value, flat, locations, weights)
    return result


# The dtypes each back end takes values in; others are computed in float32.
_FLOATS = (torch.float32, torch.float64)
_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], tuple[torch.dtype, ...]]] = {
    "reference": (reference.embedding_bag, _FLOATS),
    "gather": (reference.gather, _FLOATS),
    "grid_sample": (reference.grid_sample, _FLOATS),
    "cpu": (cpu.forward, (*_FLOATS, torch.bfloat16)),
    "triton": (_triton, (torch.float32, torch.float16, torch.bfloat16)),
}


def _mode() -> str:
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "export"
    return "compile" if torch.compiler.is_compiling() else "eager"


# What a compiled graph holds is settled when it is traced, loading and warning included.
@assume_constant_result
def _choose(device_type: str, dtype: torch.dtype, mode: str, wants_grad: bool) -> str:
    name, problem = _pick(_forced.get(), device_type, dtype, mode, wants_grad)
    if problem:
        _warn_once(f"deformable attention runs in plain torch, slower: {problem}")
    return name


def _pick(
    forced: str | None, device_type: str, dtype: torch.dtype, mode: str, wants_grad: bool
) -> tuple[str, str]:
    """The back end to use, and what kept a better one away."""
    if forced is not None:
        _check_name(forced)
    if forced in _PLAIN_TORCH:
        return forced, ""
    # Compiled, gather has the cheapest backward pass of the plain forms, embedding_bag the cheapest forward.
    plain = "gather" if mode == "compile" and wants_grad else "reference"
    if forced is None and mode == "export":
        return "grid_sample", ""
    native = forced or {"cpu": "cpu", "cuda": "triton"}.get(device_type)
    if native is None or (native == "triton" and dtype == torch.float64 and not forced):
        return plain, ""
    problem = _problem(native, device_type)
    if native == "triton" and dtype == torch.float64:
        problem = "back end 'triton' computes in float32, not in float64"
    return (plain, problem) if problem else (native, "")


def _problem(name: str, device_type: str) -> str:
    """Why the back end cannot serve tensors on the device; empty if it can."""
    if name == "cpu":
        return _cpu_problem() if device_type == "cpu" else f"back end 'cpu' serves no {device_type} tensors"
    if name == "triton":
        interpreted = device_type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
        if device_type != "cuda" and not interpreted:
            return f"back end 'triton' serves no {device_type} tensors"
        if torch.are_deterministic_algorithms_enabled():
            return "gradients of back end 'triton' are not deterministic, which torch is told to be"
        return _triton_problem()
    return ""


@cache
def _cpu_problem() -> str:
    try:
        library.load()
    except OSError as error:
        return str(error)
    return ""


@cache
def _triton_problem() -> str:
    try:
        import_module("focus_detr.ops.triton")
    except ImportError as error:
        return f"Triton cannot be imported ({error}); `pip install triton` if this torch came without it"
    return ""


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _check_name(name: str) -> None:
    if name not in BACKENDS:
        raise FocusDetrError(
            f"unknown deformable attention back end {name!r} ({ENVIRONMENT_VARIABLE} or use_backend); "
            f"use one of {', '.join(BACKENDS)}"
        )


def _check_shapes(value: Tensor, shapes: reference.Shapes, locations: Tensor, weights: Tensor) -> None:
    tokens = sum(height * width for height, width in shapes)
    if value.dim() != 4 or value.shape[1] != tokens:
        raise FocusDetrError(
            f"value has shape {tuple(value.shape)}, "
            f"needed (B,N,h,C/h) with N={tokens}, the tokens of levels {list(shapes)}"
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
