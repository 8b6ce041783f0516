"""Rows of a token tensor: the best of them, gathered into a compact buffer, and scattered back."""

# Shapes: B images, N tokens of all levels, K of them, C channels.

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from focus_detr.structures.constant import assume_constant_result
from focus_detr.structures.scoped import Scoped

_by_top_k = Scoped("exported_as_top_k", False)


def sorted_by_top_k() -> AbstractContextManager[None]:
    """Inside the block, exports sort by TopK: ONNX has no other, and keeps the order of equal scores."""
    return _by_top_k.to(True)


@assume_constant_result
def _exported_as_top_k() -> bool:
    # Compilers of torch before 2.13 cannot look into a context variable: a graph keeps what held at tracing.
    return _by_top_k.get()


def descending(scores: Tensor, count: int) -> Tensor:
    """Indices (B,count) of the best of scores (B,N).

    Equal scores keep their order, so that padding, which comes between tokens, changes nothing.
    """
    if torch.compiler.is_exporting() and _exported_as_top_k():
        return scores.topk(count, dim=1).indices
    return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :count]


def smaller(one: int, other: int) -> int:
    """The smaller of two numbers, of which a trace may hold either as a symbol."""
    # `min` would ask a symbol which it is; the compiler of torch 2.11 refuses `sym_min` of plain numbers.
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    return torch.sym_min(one, other)


def gather_rows(tokens: Tensor, indices: Tensor) -> Tensor:
    """Rows (B,K) of tokens (B,N,...) -> (B,K,...)."""
    # Whole rows are copied several times faster than gathered element by element.
    return tokens.flatten(0, 1).index_select(0, _rows(indices, tokens)).unflatten(0, indices.shape)


def scatter_rows(tokens: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """A copy of tokens (B,N,C) with rows (B,K,C) written at indices (B,K)."""
    rows = rows.to(tokens.dtype)
    return tokens.flatten(0, 1).index_copy(0, _rows(indices, tokens), rows.flatten(0, 1)).view_as(tokens)


def add_rows(tokens: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """A copy of tokens (B,N,C) with rows (B,K,C) added at indices (B,K); those of index -1 are left out."""
    some = indices >= 0
    rows = torch.where(some[..., None], rows, 0.0).to(tokens.dtype)
    indices = indices.clamp(min=0)
    if torch.compiler.is_exporting():
        return tokens.scatter_add(1, indices[..., None].expand(-1, -1, tokens.shape[-1]), rows)
    return tokens.flatten(0, 1).index_add(0, _rows(indices, tokens), rows.flatten(0, 1)).view_as(tokens)


def _rows(indices: Tensor, tokens: Tensor) -> Tensor:
    # Indices (B,K) of rows of each image as rows of all images, (B*K).
    first = torch.arange(indices.shape[0], device=indices.device) * tokens.shape[1]
    return (indices + first[:, None]).flatten()
