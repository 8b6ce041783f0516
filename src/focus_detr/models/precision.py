"""Full precision: what decides by order or by place stays float32 where the rest of a model does not.

Half precision has 8 (bfloat16) or 11 (float16) bits: too few to rank thousands of tokens, or to tell
neighbouring pixels of a large map apart. Two things make a model coarse, and both stop here: weights cast
to a narrower dtype, and autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from focus_detr.errors import FocusDetrError
from focus_detr.models.attention import MLP

_NAMES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")
}

Method = TypeVar("Method", bound=Callable[..., Any])


def is_half(dtype: torch.dtype) -> bool:
    """Whether a floating dtype has fewer bits than float32."""
    return dtype.is_floating_point and dtype.itemsize < 4


def float_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The dtype of that name, which weights can have.

    Raises:
        FocusDetrError: there is none.
    """
    chosen = _NAMES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in _NAMES.values():
        raise FocusDetrError(f"dtype={dtype!r}: weights cannot have it; use one of {', '.join(_NAMES)}")
    return chosen


def widened(value: Any) -> Any:
    """A half-precision tensor as float32; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and is_half(value.dtype) else value


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A block that autocast leaves alone."""
    # Where there is no autocast nothing is entered: traced graphs would keep the block as a part of its own.
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def in_full_precision(method: Method) -> Method:
    """Let ``method`` see tensors of float32 or more among its arguments, and no autocast."""

    @wraps(method)
    def full(self: Any, *inputs: Any, **options: Any) -> Any:
        device = next(each.device for each in inputs if isinstance(each, Tensor))
        with without_autocast(device):
            return method(self, *(widened(each) for each in inputs), **options)

    return cast(Method, full)


class FullPrecision(nn.Module):
    """A part whose tensors, and those of its parts, stay float32 where a model is cast to half precision.

    That holds for ``model.half()``, ``model.to(dtype)`` and, by `full_precision_parts`,
    ``from_pretrained(dtype=...)``. Its methods that compute are decorated by `in_full_precision`.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FullPrecision:
        def unless_narrower(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            if is_half(changed.dtype) and changed.dtype != tensor.dtype:
                return tensor.to(changed.device, torch.float32)
            return changed

        super()._apply(unless_narrower, recurse)
        return self


class FullLinear(FullPrecision, nn.Linear):
    """A linear layer in full precision."""

    forward = in_full_precision(nn.Linear.forward)


class FullMLP(FullPrecision, MLP):
    """Linear layers with ReLU between them, in full precision."""

    forward = in_full_precision(MLP.forward)


class FullEmbedding(FullPrecision, nn.Embedding):
    """A table of vectors in full precision."""


def full_precision_parts(model: nn.Module) -> list[str]:
    """Names of the outermost parts of ``model`` that stay float32."""
    names = [name for name, part in model.named_modules() if isinstance(part, FullPrecision)]
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
