"""Multiply-accumulate operations of a model, part by part, counted from shapes without computing anything.

The rule. Counted: convolutions, matrix products (linear layers, both products of attention), and the sampling
of deformable attention as four corners a point, each one multiplication and addition a channel: 4 * L * P * C
a query. Not counted: norms, activations, softmax, sums, position encodings, interpolation, sorting.
One image, or a batch as a whole. One multiply-accumulate is two floating-point operations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError

if TYPE_CHECKING:
    from torch import nn

    from focus_detr.models.configuration import FocusDetrConfig

RULE = (
    "multiply-accumulates of convolutions and matrix products, and 4*L*P*C a query for the sampling of "
    "deformable attention; norms, activations, softmax, sums, interpolation, sorting, gathering do not count"
)
SMALLEST_SIDE = 32


@dataclass(frozen=True)
class Cost:
    """What one forward pass takes.

    Attributes:
        backbone, neck, scoring, encoder, decoder: multiply-accumulates. Scoring is all that leads to the
            token plan; the category score belongs to the encoder, query selection to the decoder.
        parameters: numbers that training could change.
        tokens: N of one image.
        kept: tokens that each encoder layer works on; N where nothing is selected.
    """

    backbone: int
    neck: int
    scoring: int
    encoder: int
    decoder: int
    parameters: int
    tokens: int
    kept: tuple[int, ...]

    @property
    def total(self) -> int:
        """Multiply-accumulates of the whole model."""
        return sum(self.parts().values())

    @property
    def kept_share(self) -> float:
        """Mean over the layers of the share of tokens they work on."""
        return sum(self.kept) / (len(self.kept) * self.tokens)

    def parts(self) -> dict[str, int]:
        """Multiply-accumulates by part."""
        return {name: getattr(self, name) for name in ("backbone", "neck", "scoring", "encoder", "decoder")}


def count_macs(
    config: FocusDetrConfig, height: int, width: int, batch: int = 1, queries: int | None = None
) -> Cost:
    """The cost of a model of ``config`` for a batch of unpadded images of ``height`` x ``width`` pixels.

    No weights are needed and no memory is taken: it works for any size, on any machine.

    Args:
        queries: that the decoder has, of hosts whose pictures have different numbers of them
            (`query_threshold`); the most that there can be when not given.

    Raises:
        FocusDetrError: a size too small for the model's coarsest level.
    """
    if min(height, width) < SMALLEST_SIDE or batch < 1:
        raise FocusDetrError(
            f"size {height}x{width}, batch {batch}: sides must be {SMALLEST_SIDE} pixels or more, "
            "the batch at least 1"
        )
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from focus_detr.models import FocusDetrForObjectDetection
    from focus_detr.structures.auto_budget import AutoBudget
    from focus_detr.structures.budget import Budget
    from focus_detr.structures.geometry import Geometry, flatten_levels
    from focus_detr.structures.tokens import Tokens

    with FakeTensorMode(), torch.no_grad():
        parameters = count_parameters(FocusDetrForObjectDetection(config)) if queries else None
        model = FocusDetrForObjectDetection(_with_queries(config, queries)).eval().requires_grad_(False)
        images = torch.empty(batch, 3, height, width)
        backbone, maps = counted(model.backbone, images)
        neck, levels = counted(model.neck, maps)
        geometry = Geometry.unpadded(
            [(level.shape[2], level.shape[3]) for level in levels], batch, images.device
        )
        content = flatten_levels(levels)
        tokens = Tokens(content, model.encode_positions(geometry, content), geometry)
        budget = model.encoder.accept(None)
        if isinstance(budget, AutoBudget):  # at most: what pictures call for, shapes do not say
            budget = Budget(budget.buckets[-1])
        scoring, plan = counted(model.encoder.plan, tokens, budget)
        encoder, memory = counted(model.encoder, tokens, plan)
        layers = model.host.accept_layers(None)
        # Hosts that run all their layers need not know of any.
        decoder, _ = counted(model.host if layers is None else partial(model.host, layers=layers), memory)
    kept = plan.counts if plan is not None else (geometry.num_tokens,) * config.encoder_layers
    parameters = parameters or count_parameters(model)
    return Cost(backbone, neck, scoring, encoder, decoder, parameters, geometry.num_tokens, tuple(kept))


def _with_queries(config: FocusDetrConfig, queries: int | None) -> FocusDetrConfig:
    # How many of them a picture has, shapes do not say.
    host_options = {**config.host_options}
    if host_options.get("query_threshold"):
        host_options["query_threshold"] = 0.0
    counted = copy.deepcopy(config)
    counted.host_options, counted.num_queries = host_options, queries or config.num_queries
    return counted


def count_parameters(model: nn.Module) -> int:
    """Numbers in the model's parameters, each counted once; statistics of batch norms are none."""
    return sum(parameter.numel() for parameter in model.parameters())


def counted(work: Callable[..., Any], *inputs: Any) -> tuple[int, Any]:
    """Multiply-accumulates of ``work(*inputs)``, and what it gives."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    rules = {torch.ops.aten.grid_sampler_2d: _sampling}
    with _countable(), FlopCounterMode(display=False, custom_mapping=rules) as counter:
        result = work(*inputs)
    return counter.get_total_flops() // 2, result


def _sampling(*_: Any, out_shape: Any = None, **__: Any) -> int:
    # out_shape (B*h, C/h, Q, P) of one level; two operations for each of four corners.
    values = 1
    for length in out_shape:
        values *= length
    return 2 * 4 * values


@contextmanager
def _countable() -> Iterator[None]:
    """Inside the block, fused operators are the plain ones whose shapes the counter knows."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from focus_detr.ops import use_backend

    with use_backend("grid_sample"), sdpa_kernel(SDPBackend.MATH):
        yield
