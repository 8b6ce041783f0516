"""The detector: its forward pass reads like the paper's figure 2."""

# Shapes: B images, L levels, H W height and width, N tokens of all levels, C channels, Q queries, k classes,
# T objects, M cells of a grid's side, F fine-grained, h heads, P points.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.losses.targets import Joint
from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.configuration import FocusDetrConfig
from focus_detr.models.heads import HEADS, Head
from focus_detr.models.hosts import HOSTS
from focus_detr.models.inputs import check_images
from focus_detr.models.levels import levels_of_canvas, levels_of_each_size, on_canvas
from focus_detr.models.neck import Neck
from focus_detr.models.policies import POLICIES
from focus_detr.models.policies.base import Ranking
from focus_detr.models.position import token_positions
from focus_detr.models.precision import without_autocast
from focus_detr.models.proposals import Proposals
from focus_detr.models.renamed import rename_old
from focus_detr.structures.auto_budget import AutoBudget, BudgetLike
from focus_detr.structures.budget import AUTO, Budget, LayerCounts
from focus_detr.structures.geometry import Geometry, flatten_levels
from focus_detr.structures.memory import DecoderOutput, FineMap
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.queries import DenoisingQueries
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.pretrained import FocusDetrForObjectDetection as FocusDetrForObjectDetection

Labels = list[dict[str, Tensor]]


@dataclass
class FocusDetrOutput(ModelOutput):
    """Predictions of the last decoder layer, and what they came from.

    Attributes:
        loss: the sum of ``loss_dict``, whose parts are already weighted; with labels only.
        logits: (B,Q,k), the lowest float where a query stands for no token of its image; hosts with softmax
            scoring have one more class, "no object", last.
        pred_boxes: (B,Q,4) boxes_cxcywh of the unpadded image.
        plan: the tokens each encoder layer worked on; None for the dense policy.
        memory: (B,N,C), the encoder's output; the polled and the pooled tokens of "poll-and-pool".
        proposal_boxes: (B,Q,4) boxes_cxcywh that the decoder started from.
        spatial_shapes: (H,W) of each level's canvas.
        level_sizes: (B,L,2) height and width of the image's part of each canvas.
        extra: (B,Q,...) by the name of the head, of each of the configuration's ``heads``; None without any.
            Of heads that say several things, by NAME_KEY.
        samples: where each decoder layer looked, locations (B,Q,h,L,P,2) in fractions of each level's canvas
            and weights (B,Q,h,L,P), those of a head adding up to 1; None where it was not asked for.
        fine_tokens: (B,F) tokens of the grid that attended to one another in each encoder layer, -1 for none;
            None without dual attention, or where ``samples`` were not asked for.
        further: one of these for each further budget; None where none was asked for.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None
    plan: TokenPlan | None = None
    memory: Tensor | None = None
    proposal_boxes: Tensor | None = None
    spatial_shapes: list[tuple[int, int]] | None = None
    level_sizes: Tensor | None = None
    extra: dict[str, Tensor] | None = None
    samples: list[tuple[Tensor, Tensor]] | None = None
    fine_tokens: list[Tensor] | None = None
    further: list[FocusDetrOutput] | None = None


class Detector(nn.Module):
    """A host (queries, decoder, matching) behind an encoder with a token policy.

    By itself it detects. `FocusDetrForObjectDetection` is this one as a transformers model, which is trained,
    saved and shared.

    Focus-DETR ("Less is More: Focus Attention for Efficient DETR", ICCV 2023) is the host "dino" with the
    policy "focus"; with the policy "dense" it is DINO.
    """

    config: FocusDetrConfig
    bare = True
    """Nothing of transformers' model class is there, nor imported."""

    def __init__(self, config: FocusDetrConfig) -> None:
        config.check()
        self.begin(config)
        c = config
        assert c.backbone_config is not None and c.num_labels is not None  # filled in by the configuration
        self.backbone = build_backbone(
            c.backbone_config,
            freeze_stem=c.freeze_stem,
            freeze_stages=c.freeze_stages,
            train_norm_affine=c.train_norm_affine,
            finer=self._needs_fine_map(c),
            bare=self.bare,
        )
        host = HOSTS[c.host]
        self.neck = Neck(
            self.backbone.channels, c.d_model, c.num_levels, c.neck_norm and not host.single_scale
        )
        strides = list(self.backbone.strides)
        self.strides = strides + [strides[-1] * 2 ** (i + 1) for i in range(c.num_levels - len(strides))]
        self.level_embedding: nn.Parameter | None = None
        if not host.single_scale:
            self.level_embedding = nn.Parameter(torch.empty(c.num_levels, c.d_model))
        policy = POLICIES[c.token_policy]
        proposing = host.two_stage(c) or policy.needs_proposals
        proposals = Proposals(c.d_model, c.num_labels) if proposing else None
        self.encoder = policy(c, proposals)
        self.proposals = proposals
        self.host = host(c, proposals)
        self.heads = nn.ModuleDict({n: HEADS[n](c, c.head_options.get(n, {})) for n in c.heads})
        self.quirks = c.switches
        self.register_load_state_dict_pre_hook(rename_old)

    def begin(self, config: FocusDetrConfig) -> None:
        """What has to be there before parts are added."""
        nn.Module.__init__(self)
        self.config = config

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        labels: Labels | None = None,
        denoising: DenoisingQueries | None = None,
        *,
        budget: BudgetLike | LayerCounts = None,
        decoder_layers: int | None = None,
        further: Sequence[BudgetLike] = (),
        with_samples: bool = False,
        ranking: Ranking | None = None,
        **others: Any,
    ) -> FocusDetrOutput:
        """Detect, and with labels also compute the losses.

        Args:
            pixel_values: (B,3,H,W) normalised images, padded right and below.
            pixel_mask: (B,H,W), 1 where a pixel is image; None when nothing is padded.
            labels: one dict an image: ``class_labels`` (T,), ``boxes`` (T,4) boxes_cxcywh of the unpadded
                image, ``size`` (2,) its height and width in pixels. With the head "masks" also ``masks``
                (T,M,M) uint8, how much, of 255, of each cell of a grid over its box an object covers, and
                ``masks_known`` (T,), where some are not.
            denoising: the denoising queries to use instead of drawing them.
            budget: mean share of tokens that an encoder layer works on, in [0.05, 1]; 1 is all of them, None
                what the configuration says (see `Budget`). "auto" chooses one for each image, by the
                configuration's ``auto_budget`` (see `AutoBudget`); ``plan.budgets`` are those chosen.
            decoder_layers: run so many decoder layers, the first ones, and answer by the last of them, which
                has heads of its own; not in training. None is what the configuration says, or else all.
            further: budgets of further passes over the same levels, which backbone and neck make once. In
                training these passes start from the first one's queries, where the host can, so that
                predictions correspond; they have no denoising queries, and of the token policy, whose scores
                they share, no losses but `pass_losses`. In evaluation each is what a call with its budget is.
            with_samples: say where the decoder looked, too, where its attention samples places, and which
                tokens were fine-grained.
            ranking: foreground logits (B,N) and geometry to what tokens are chosen by in their place, as in a
                video by those of the frames before, too; of the first pass.

        Raises:
            FocusDetrError: an argument is none of these, there is no image in them, or the token policy does
                not take the budget, the host the number of layers.
        """
        refuse_arguments(others)
        check_images(pixel_values, pixel_mask)
        accepted = self.encoder.accept(budget)
        layers = self.host.accept_layers(decoder_layers)
        if ranking is not None:
            self.encoder.check_ranking("ranking")
        also = [self.encoder.accept(each) for each in further]
        # Levels (B,C,H_l,W_l), fine to coarse.
        levels, geometry, fine = self._extract_levels(pixel_values, pixel_mask)
        content = flatten_levels(levels)  # (B,N,C)
        tokens = Tokens(content, self.encode_positions(geometry, content), geometry, fine)
        output, decoded = self._detect(
            tokens,
            accepted,
            labels,
            denoising,
            with_samples=with_samples,
            ranking=ranking,
            layers=layers,
        )
        if also:
            shared = decoded if self.training else None
            output.further = [
                self._detect(tokens, each, labels, denoising, shared, layers=layers)[0] for each in also
            ]
        return output

    def _detect(
        self,
        tokens: Tokens,
        budget: Budget | AutoBudget | LayerCounts | None,
        labels: Labels | None,
        denoising: DenoisingQueries | None,
        first: DecoderOutput | None = None,
        with_samples: bool = False,
        ranking: Ranking | None = None,
        layers: int | None = None,
    ) -> tuple[FocusDetrOutput, DecoderOutput]:
        # All that depends on the budget; ``first`` is what a pass before it made of the same tokens.
        geometry = tokens.geometry
        # In evaluation labels serve the losses alone: no query is made of them.
        noised = labels if self.training else None
        said_to_host: dict[str, Any] = {} if layers is None else {"layers": layers}
        if first is not None:
            # Denoising queries would cost half a decoder more, and a further pass has its teacher.
            noised, denoising = None, None
            if self.host.takes_start:
                said_to_host["start"] = first.queries

        # Which tokens are worked on is decided once; the encoder executes the plan, whatever made it.
        plan = self.encoder.plan_for(tokens, budget, ranking)
        memory = self.encoder(tokens, plan)  # (B,N,C)
        memory.fine_map = tokens.fine_map
        if memory.plan is not None:
            plan = memory.plan  # with what layers chose on their way

        decoded = self.host(
            memory,
            noised,
            denoising,
            with_samples=with_samples
            or (labels is not None and first is None and self.encoder.needs_samples),
            **said_to_host,
        )

        said = {name: head(decoded, memory) for name, head in self.heads.items()}

        loss, parts = None, None
        if labels is not None:
            # Sums over thousands of queries, and costs that differ by little: half precision loses both.
            with without_autocast(tokens.content.device):
                decoded.joint = self._joint(said, decoded, labels)
                parts = self.host.losses(decoded, labels)
                if first is None:
                    parts |= self.encoder.losses(memory, decoded, self.strides, labels)
                parts |= self.encoder.pass_losses(memory, self.strides, labels)
                if said:
                    matches = self.host.objective.matches(decoded, labels)
                for name, head in self.heads.items():
                    parts |= cast(Head, head).losses(said[name], matches, labels)
                loss = torch.stack(list(parts.values())).sum()
        skip = decoded.num_denoising
        logits = decoded.logits[-1][:, skip:]  # (B,Q,k)
        if decoded.valid is not None:
            # Small images of a batch have fewer tokens than there are queries: the rest find nothing.
            logits = logits.masked_fill(~decoded.valid[..., None], torch.finfo(logits.dtype).min)
        output = FocusDetrOutput(
            loss=loss,
            loss_dict=parts,
            logits=logits,
            pred_boxes=decoded.boxes[-1][:, skip:],
            plan=plan,
            memory=memory.tokens,
            proposal_boxes=decoded.initial_boxes,
            spatial_shapes=geometry.shapes,
            level_sizes=geometry.sizes,
            extra=_by_name(said) or None,
        )
        if with_samples:
            output.fine_tokens = memory.fine_tokens() or None
        if with_samples and decoded.samples:
            output.samples = [(at[:, skip:], weights[:, skip:]) for at, weights in decoded.samples]
        return output, decoded

    def set_budget(self, budget: BudgetLike) -> None:
        """The budget of calls that say none, kept in the configuration, which a saved model has.

        One for all threads: where they want different ones, they say so at their calls, which goes before it.

        Args:
            budget: as `forward` takes it; None is what the token policy is configured for.

        Raises:
            FocusDetrError: it is no budget, or the token policy takes none.
        """
        accepted = None if budget is None else self.encoder.accept(budget)
        if isinstance(accepted, AutoBudget):
            self.config.auto_budget, self.config.budget = accepted.to_dict(), AUTO
        else:
            self.config.budget = accepted.share if isinstance(accepted, Budget) else None

    def set_decoder_layers(self, layers: int | None) -> None:
        """How many decoder layers calls run that say none, kept as `set_budget` keeps a budget; None is all.

        Raises:
            FocusDetrError: it is no such number, or the host runs all of them.
        """
        self.accept_decoder_layers(layers)
        self.config.used_decoder_layers = layers

    def accept_decoder_layers(self, layers: int | None) -> int | None:
        """What a call says, checked as `set_decoder_layers` does."""
        if layers is not None:
            self.host.check_layers(self.config, layers, "decoder_layers")
        return layers

    def extract_levels(
        self, pixel_values: Tensor, pixel_mask: Tensor | None
    ) -> tuple[list[Tensor], Geometry]:
        """Images (B,3,H,W) to levels (B,C,H_l,W_l) and where in them the images are."""
        levels, geometry, _ = self._extract_levels(pixel_values, pixel_mask)
        return levels, geometry

    def _extract_levels(
        self, pixel_values: Tensor, pixel_mask: Tensor | None
    ) -> tuple[list[Tensor], Geometry, FineMap | None]:
        levels, geometry = self._extract(pixel_values, pixel_mask)
        fine = None
        if self._needs_fine_map(self.config):
            fine = FineMap(levels[0], geometry.sizes[:, 0], geometry.valid is not None)
            levels, geometry = levels[1:], geometry.without_first()
        if self.host.coordinates_in_own_precision and pixel_values.dtype.itemsize > 4:
            geometry.precision = pixel_values.dtype
        return levels, geometry, fine

    def _extract(self, pixel_values: Tensor, pixel_mask: Tensor | None) -> tuple[list[Tensor], Geometry]:
        multiple = self.host.canvas_multiple
        if multiple > 1 and self.quirks.padded_backbone:
            pixel_values, pixel_mask = on_canvas(pixel_values, pixel_mask, multiple)
        if pixel_mask is None or (self.quirks.unmasked_evaluation and not self.training):
            return levels_of_canvas(self._levels, pixel_values, None)
        if self.quirks.padded_backbone:
            return levels_of_canvas(self._levels, pixel_values, pixel_mask)
        return levels_of_each_size(self._levels, pixel_values, pixel_mask)

    def _levels(self, pixel_values: Tensor) -> list[Tensor]:
        if not self._needs_fine_map(self.config):
            return self.neck(self.backbone(pixel_values))
        finest, maps = self.backbone.with_finest(pixel_values)
        return [finest, *self.neck(maps)]

    @staticmethod
    def _needs_fine_map(config: FocusDetrConfig) -> bool:
        return any(HEADS[name].needs_fine_map for name in config.heads)

    def _joint(self, said: dict[str, Any], decoded: DecoderOutput, labels: Labels) -> list[dict[str, Joint]]:
        # Of each decoder layer, by the name of the head.
        joint: list[dict[str, Joint]] = [{} for _ in decoded.states]
        for name, head in self.heads.items():
            for of_layer, each in zip(
                joint, cast(Head, head).joint(said[name], decoded, labels), strict=False
            ):
                of_layer[name] = each
        return joint

    def encode_positions(self, geometry: Geometry, tokens: Tensor) -> Tensor:
        """(B,N,C): where each token is in its image, and on which level."""
        c = self.config
        positions = token_positions(geometry, c.d_model, c.position_temperature, c.position_offset)
        positions = positions.to(tokens.dtype)
        if self.level_embedding is None:
            return positions
        rows = zip(self.level_embedding, geometry.lengths, strict=True)
        return positions + torch.cat([row.expand(length, -1) for row, length in rows])


def _by_name(said: dict[str, Any]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, each in said.items():
        several = isinstance(each, dict)
        named |= {f"{name}_{key}": value for key, value in each.items()} if several else {name: each}
    return named


_ARGUMENTS = (
    "pixel_values", "pixel_mask", "labels", "denoising", "budget", "decoder_layers", "further",
    "with_samples", "ranking",
)  # fmt: skip
# Of transformers' trainers and pipelines; with these values they ask for what is done anyhow.
_CUSTOMARY = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}


def refuse_arguments(others: dict[str, Any]) -> None:
    """Refuse arguments of a call that nothing would come of.

    Raises:
        FocusDetrError: there is one.
    """
    for name, value in others.items():
        if name == "return_dict" and value is False:
            raise FocusDetrError("return_dict=False: a detector's answer has names; use its .to_tuple()")
        if name == "num_items_in_batch" or (name in _CUSTOMARY and value in (None, _CUSTOMARY[name])):
            continue
        if name in _CUSTOMARY:
            raise FocusDetrError(f"{name}={value!r}: a detector gives none")
        raise FocusDetrError(
            f"unknown argument {name!r}{did_you_mean(name, _ARGUMENTS)}; known: {', '.join(_ARGUMENTS)}"
        )


def __getattr__(name: str) -> Any:
    # Asked for by its old place, and by whoever trains or saves: not imported by those who detect alone.
    if name != "FocusDetrForObjectDetection":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from focus_detr.models.pretrained import FocusDetrForObjectDetection

    return FocusDetrForObjectDetection
