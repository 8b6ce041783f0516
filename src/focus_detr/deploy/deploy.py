"""deploy(): a copy of a model that only infers, and does it as fast as it can without other answers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_detr.deploy.fusion import computes_natively, fuse_convolutions, replace_modules
from focus_detr.deploy.graphs import Dials, RecordedPasses
from focus_detr.deploy.precision import to_half_precision
from focus_detr.deploy.recent import Recent
from focus_detr.errors import FocusDetrError
from focus_detr.models import FocusDetrForObjectDetection
from focus_detr.models.attention import DeformableAttention, FeedForward, Samples
from focus_detr.models.detector import FocusDetrOutput, refuse_arguments
from focus_detr.models.inputs import check_images
from focus_detr.models.nested import NestedFeedForward
from focus_detr.models.policies.base import Ranking
from focus_detr.ops import multi_scale_deformable_attention_of_projections, takes_projections
from focus_detr.structures.auto_budget import BudgetLike
from focus_detr.structures.budget import AUTO
from focus_detr.structures.geometry import Geometry, in_graph

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Rows whose hidden layer is made at once: it then stays in a processor's cache, and 4K images in memory. A
# GPU wants enough of them to be filled.
_ROWS_AT_ONCE, _ROWS_AT_ONCE_ON_GPU = 1024, 2**16
# Position encodings kept for image sizes seen before.
_POSITION_BYTES = 256 * 2**20


def deploy(
    model: FocusDetrForObjectDetection,
    *,
    dtype: torch.dtype | str | None = None,
    compile: bool = False,
    cuda_graphs: bool = False,
) -> DeployedFocusDetr:
    """A copy of ``model`` for inference only, on the same device; ``model`` itself stays as it is.

    Batch norms are folded into convolutions, which take in what follows them; position encodings are kept
    for sizes that repeat; the feed-forward networks never hold their whole hidden layer.

    Args:
        dtype: of matrix products and convolutions: "float32" (the default), "bfloat16", "float16", or "auto"
            for bfloat16 where the processor has it. Scores, selection, coordinates, softmax and norms stay
            float32.
        compile: pass it through `torch.compile`; takes minutes, once for each image size.
        cuda_graphs: record a pass, of the compiled model if it is to be, for each image size, budget and
            number of decoder layers, and replay it (`RecordedPasses`); on a GPU only.

    Raises:
        FocusDetrError: an option cannot be used here.
    """
    if isinstance(model, DeployedFocusDetr):
        raise FocusDetrError("deploy: this model is deployed already; deploy the one it was made from")
    if not isinstance(model, FocusDetrForObjectDetection):
        raise FocusDetrError(
            f"deploy: {type(model).__name__} is no FocusDetrForObjectDetection; an exported model is already "
            "in the form its runtime wants"
        )
    device = model.device
    precision = _precision(dtype, device)
    if cuda_graphs and device.type != "cuda":
        raise FocusDetrError(
            f"cuda_graphs=True: the model is on {device.type}; move it to a GPU, or leave it out"
        )
    deployed = DeployedFocusDetr(model)
    fuse_convolutions(deployed.backbone)
    fuse_convolutions(deployed.neck)
    replace_modules(deployed, (NestedFeedForward,), NestedFeedForward.split)
    replace_modules(deployed, (FeedForward,), RowwiseFeedForward)
    replace_modules(deployed, (DeformableAttention,), _projected)
    if precision != torch.float32:
        to_half_precision(deployed, precision)
    if compile:
        if model.config.budget == AUTO:
            raise FocusDetrError(
                f"compile: a graph has one budget, and this model chooses (budget={AUTO!r}); set one, or "
                "model.set_budget(None) first"
            )
        deployed._compile()
    if cuda_graphs:
        deployed._graphs = RecordedPasses(deployed._pass)
    return deployed


class DeployedFocusDetr(FocusDetrForObjectDetection):
    """What `deploy` makes: called and answering like the model it was made from, but it cannot be trained.

    Any number of threads may call one; each gets what it would get alone.
    """

    def __init__(self, model: FocusDetrForObjectDetection) -> None:
        nn.Module.__init__(self)  # the base class would make new parts: a copy's are taken over
        self.__dict__.update(copy.deepcopy(model).float().eval().requires_grad_(False).__dict__)
        # Hooks of loading know the copy, which is gone, and no copy could be made of this.
        self._load_state_dict_pre_hooks = OrderedDict()
        self._compiled: Callable[..., FocusDetrOutput] | None = None
        self._compiled_at: Dials | None = None
        self._graphs: RecordedPasses | None = None
        self._positions: Recent[Tensor] = Recent(_POSITION_BYTES, size=attrgetter("nbytes"))

    def _compile(self) -> None:
        budget: Any = self.config.budget  # a number: "auto" is refused
        self._compiled_at = budget, self.host.accept_layers(None)
        self._compiled = torch.compile(super().forward, fullgraph=True, options={"freezing": True})

    # Labels and the rest of training's arguments have no place here: narrower than the model's on purpose.
    @torch.no_grad()
    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        labels: None = None,
        *,
        budget: BudgetLike = None,
        decoder_layers: int | None = None,
        with_samples: bool = False,
        ranking: Ranking | None = None,
        **others: Any,
    ) -> FocusDetrOutput:
        """Detect in images (B,3,H,W) of any floating type; `pixel_mask` (B,H,W), 1 where a pixel is image."""
        if labels is not None:
            raise FocusDetrError("a deployed model computes no losses; use the one it was made from")
        refuse_arguments(others)
        check_images(pixel_values, pixel_mask)
        pixel_values = pixel_values.float()
        # Which images are padded, and how, is a question of data, which no graph can hold.
        of_one_size = self._compiled is not None or self._graphs is not None
        whole = pixel_mask is None or (of_one_size and bool(pixel_mask.all()))
        budget = self.config.budget if budget is None else budget
        layers = self.host.accept_layers(decoder_layers)
        if not whole or with_samples or ranking is not None or not isinstance(budget, int | float | None):
            return super().forward(
                pixel_values,
                pixel_mask,
                budget=budget,
                decoder_layers=decoder_layers,
                with_samples=with_samples,
                ranking=ranking,
            )
        if self._graphs is not None:
            return self._graphs(pixel_values, (budget, layers))
        return self._pass(pixel_values, (budget, layers))

    def _pass(self, images: Tensor, dials: Dials) -> FocusDetrOutput:
        """The pass over images without padding."""
        # Not each of the many pairs is worth the minutes that compiling takes.
        if self._compiled is not None and dials == self._compiled_at:
            return self._compiled(images)
        budget, layers = dials
        return super().forward(images, budget=budget, decoder_layers=layers)

    def encode_positions(self, geometry: Geometry, tokens: Tensor) -> Tensor:
        """(B,N,C), made once for each image size."""
        # What a graph reads must not be forgotten before it.
        if geometry.valid is not None or torch.compiler.is_compiling() or in_graph(tokens.device):
            return super().encode_positions(geometry, tokens)
        key = (tuple(geometry.shapes), tokens.device, tokens.dtype)
        encode = super().encode_positions
        encoding = self._positions.get(
            key, lambda: encode(Geometry.unpadded(geometry.shapes, 1, tokens.device), tokens)
        )
        return encoding.expand(len(tokens), -1, -1)

    def train(self, mode: bool = True) -> DeployedFocusDetr:
        if mode:
            raise FocusDetrError("a deployed model cannot be trained; train the one it was made from")
        super().train(False)
        return self

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        raise FocusDetrError("a deployed model is not for saving; save the one it was made from")

    def _apply(self, fn: Any, recurse: bool = True) -> DeployedFocusDetr:
        self._positions.clear()
        if self._graphs is not None:
            self._graphs.clear()
        super()._apply(fn, recurse)
        return self


class ProjectedAttention(DeformableAttention):
    """Deformable attention with one projection for offsets and weights, and their use in one operator."""

    joint_weight: Tensor
    joint_bias: Tensor

    def __init__(self, plain: DeformableAttention) -> None:
        nn.Module.__init__(self)
        self.heads, self.levels, self.points = plain.heads, plain.levels, plain.points
        self.sampling_offsets, self.attention_weights = plain.sampling_offsets, plain.attention_weights
        self.value_proj, self.output_proj = plain.value_proj, plain.output_proj
        parts = self.sampling_offsets, self.attention_weights
        self.register_buffer("joint_weight", torch.cat([part.weight for part in parts]), persistent=False)
        self.register_buffer("joint_bias", torch.cat([part.bias for part in parts]), persistent=False)

    def sample(
        self, queries: Tensor, references: Tensor, shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """What `gather` needs: references (B,Q,L,2 or 4) and projections (B,Q,3hLP), or as the base class."""
        if not takes_projections(queries):
            return super().sample(queries, references, shapes)
        return references, F.linear(queries, self.joint_weight, self.joint_bias)

    def places(self, samples: Samples, shapes: list[tuple[int, int]]) -> Samples:
        references, projections = samples
        if projections.dim() != 3:
            return super().places(samples, shapes)
        number = self.heads * self.levels * self.points
        offsets, logits = projections.split([2 * number, number], -1)
        shares = logits.unflatten(-1, (self.heads, -1)).softmax(-1)
        return self.move(offsets, references, shapes), shares.unflatten(-1, (self.levels, self.points))

    def gather(
        self, value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
    ) -> Tensor:
        if weights.dim() != 3:
            return super().gather(value, shapes, locations, weights)
        return self.output_proj(
            multi_scale_deformable_attention_of_projections(value, shapes, locations, weights, self.points)
        )


class RowwiseFeedForward(FeedForward):
    """Linear, ReLU, Linear: (..., C) -> (..., C), some rows at a time."""

    def __init__(self, plain: FeedForward) -> None:
        nn.Module.__init__(self)
        self.linear1, self.linear2, self.dropout = plain.linear1, plain.linear2, plain.dropout

    def forward(self, tokens: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return super().forward(tokens)
        rows = tokens.flatten(0, -2)
        at_once = _ROWS_AT_ONCE if rows.device.type == "cpu" else _ROWS_AT_ONCE_ON_GPU
        if len(rows) <= at_once:
            return self._of(rows).view_as(tokens)
        result = torch.empty_like(rows)
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            result[part] = self._of(rows[part])
        return result.view_as(tokens)

    def _of(self, rows: Tensor) -> Tensor:
        return self.linear2(F.relu_(self.linear1(rows)))


def _projected(attention: DeformableAttention) -> nn.Module:
    # Its subclasses have other projections.
    return ProjectedAttention(attention) if type(attention) is DeformableAttention else attention


def _precision(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float32
    if dtype == "auto":
        return torch.bfloat16 if computes_natively(torch.bfloat16, device) else torch.float32
    chosen = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in _DTYPES.values():
        raise FocusDetrError(f"dtype={dtype!r}: not known; use one of auto, {', '.join(_DTYPES)}")
    if chosen != torch.float32 and not computes_natively(chosen, device):
        raise FocusDetrError(
            f"dtype={dtype!r}: this {device.type} has no arithmetic for it and would be slower; use 'float32'"
        )
    return chosen
