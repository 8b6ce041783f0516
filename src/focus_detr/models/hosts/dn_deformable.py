"""DN-Deformable-DETR: learned anchors, refined layer by layer, and denoising of positives (spec 4.1)."""

# Shapes: B images, Q queries, D denoising queries, L levels, C channels, k classes.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.attention import MLP
from focus_detr.models.heads.boxes import BoxHead
from focus_detr.models.heads.classes import ClassHead, classify
from focus_detr.models.hosts.base import HOSTS, Host, Labels
from focus_detr.models.hosts.decoder import self_attention_mask
from focus_detr.models.hosts.deformable import DeformableDecoder
from focus_detr.models.hosts.denoising import NoiseOptions, check_noise, plain_denoising
from focus_detr.models.hosts.thinning import ThinningOptions
from focus_detr.models.layers import Layers
from focus_detr.models.objective import objective_of
from focus_detr.models.position import box_positions
from focus_detr.models.precision import FullEmbedding
from focus_detr.models.proposals import Proposals
from focus_detr.models.registry import read_options
from focus_detr.structures.boxes import inverse_sigmoid
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.queries import DenoisingQueries

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class DnDeformableOptions(NoiseOptions, ThinningOptions):
    """What can be told to it."""

    denoising_groups: int = 5
    """How often each object is repeated with noise in training; 0 switches it off."""


@HOSTS.register("dn-deformable-detr")
class DnDeformableHost(Host):
    """Every query is a learned box and content; the last number of a content says what is denoised."""

    takes_layers = True
    options_class = DnDeformableOptions
    options: DnDeformableOptions

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        c = config
        assert c.num_labels is not None
        self.query_content = nn.Embedding(c.num_queries, c.d_model - 1)
        self.query_anchor = FullEmbedding(c.num_queries, 4)  # logits of boxes_cxcywh
        # One row more than there are classes, as released: a label that noise may put, and nothing else.
        self.label_embedding = nn.Embedding(c.num_labels + 1, c.d_model - 1)
        self.decoder = AnchorDecoder(c)
        self.class_heads = Layers(ClassHead(c.d_model, c.num_labels) for _ in range(c.decoder_layers))
        self.box_heads = Layers(BoxHead(c.d_model) for _ in range(c.decoder_layers))
        self.objective = objective_of(c)
        self.quirks = c.switches

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        options = read_options(cls.options_class, config.host_options, "host_options")
        check_noise(options)
        options.check_thinning()

    @classmethod
    def two_stage(cls, config: FocusDetrConfig) -> bool:
        return False

    def forward(
        self,
        memory: Memory,
        labels: Labels | None = None,
        denoising: DenoisingQueries | None = None,
        *,
        with_samples: bool = False,
        layers: int | None = None,
    ) -> DecoderOutput:
        batch = len(memory.tokens)
        content = F.pad(self.query_content.weight, (0, 1)).expand(batch, -1, -1)
        anchors = self.query_anchor.weight.sigmoid().expand(batch, -1, -1)
        if labels is not None and denoising is None:
            denoising = plain_denoising(
                labels,
                self.label_embedding,
                self.options.denoising_groups,
                self.options.label_noise,
                self.options.box_noise,
            )
        boxes, mask = anchors, None
        if denoising is not None:
            mask = denoising.attention_mask(content.shape[1])
            content, boxes = denoising.before(content, boxes)
        allowed = self_attention_mask(mask, None)
        output: DecoderOutput = self.decoder(
            content,
            content,
            boxes,
            self.options.thin(memory),
            self.box_heads,
            allowed,
            with_samples,
            layers=layers,
        )
        output.logits = classify(self.class_heads, output.states)
        output.queries, output.denoising = self.proposals_to_teach(memory), denoising
        return output

    def start(self) -> None:
        init.zeros_(self.query_content.weight)
        init.normal_(self.label_embedding.weight)
        # Boxes of all places and sizes, but for the margins.
        init.uniform_(self.query_anchor.weight)
        anchors = inverse_sigmoid(self.query_anchor.weight.detach()).clamp(-3, 3)
        init.copy_(self.query_anchor.weight, anchors)
        self.box_heads[0].start_small()

    def losses(self, decoded: DecoderOutput, labels: Labels) -> dict[str, Tensor]:
        parts = self.objective(decoded, labels)
        if decoded.denoising is None and self.training:
            # Distributed training wants every parameter in every step, also in one without objects.
            parts["loss_class"] = parts["loss_class"] + 0.0 * self.label_embedding.weight.sum()
        return parts


class AnchorDecoder(DeformableDecoder):
    """Positions of queries follow their boxes, and their contents have a say in them (DAB-DETR)."""

    def __init__(self, config: FocusDetrConfig) -> None:
        super().__init__(config, eps=1e-3)
        width = config.d_model
        self.position_mlp = MLP(2 * width, width, width)
        self.position_scale = MLP(width, width, width)
        self.canvas_query_position = config.switches.canvas_query_position

    def query_positions(
        self, layer: int, fixed: Tensor, states: Tensor, reference: Tensor, canvas: Tensor
    ) -> Tensor:
        """(B,Q,C), of the boxes that the layer starts from."""
        boxes = canvas[:, :, 0] if self.canvas_query_position else reference
        encoded = box_positions(boxes, states.shape[-1]).to(states.dtype)
        positions = self.position_mlp(encoded)
        return positions if layer == 0 else positions * self.position_scale(states)
