"""A list of layers that says of which kind they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


class Layers(nn.ModuleList, Generic[Layer]):
    """A `torch.nn.ModuleList` of one kind of layer."""

    if TYPE_CHECKING:
        # Stubs alone: compilers know ModuleList's own methods.
        def __init__(self, layers: Iterable[Layer]) -> None: ...
        def __iter__(self) -> Iterator[Layer]: ...
        def __getitem__(self, index: int) -> Layer: ...  # type: ignore[override]


def first(layers: Layers[Layer], count: int | None) -> Iterator[tuple[int, Layer]]:
    """The first ``count`` of them with their numbers; all, where it is None."""
    return zip(range(len(layers) if count is None else count), layers, strict=False)
