"""The mask head: a map at stride 4 of backbone and encoder tokens, and what each query looks for in it."""

# Shapes: B images, Q queries, N tokens of all levels, C channels, E numbers of a pixel, H W of the map,
# _l of a level.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.losses.masks import MaskPredictions, MaskWeights, ObjectPlaces
from focus_detr.models.backbones.catalogue import as_backbone_config
from focus_detr.models.backbones.finer import finest_channels
from focus_detr.models.heads.base import HEADS, Head
from focus_detr.models.options import check_ranges
from focus_detr.models.precision import FullMLP, widened
from focus_detr.models.registry import read_options
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, FineMap, Memory
from focus_detr.structures.pixel_masks import FORM, HEAD, resampled

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig

# At first the mask of a box is the ellipse in it: 2 - 8 (u^2 + v^2) is zero at its sides.
_ELLIPSE = (2.0, 0.0, 0.0, -8.0, -8.0, 0.0)


@dataclass(frozen=True)
class MaskOptions:
    """What can be told to the mask head."""

    channels: int = 32
    """Numbers of a pixel."""
    convolutions: int = 2
    """Of 3 x 3 cells, over the fused map."""
    places: int = 16
    """Of a row of the grid over an object's box where its mask is taught."""
    mask_cost: float = 2.0
    dice_cost: float = 2.0
    mask_loss_coefficient: float = 2.0
    dice_loss_coefficient: float = 2.0


@HEADS.register(HEAD)
class MaskHead(Head):
    """Masks as products of queries and pixels (MaskDINO, section 3.2), within boxes.

    Gives ``masks_kernels`` (B,Q,E+6), ``masks_pixels`` (B,E,H,W) and ``masks_sizes`` (B,2), from which
    `PixelMasks` computes the masks of what is kept.
    """

    options_class = MaskOptions
    options: MaskOptions
    needs_fine_map = True

    def __init__(self, config: FocusDetrConfig, options: dict[str, Any]) -> None:
        super().__init__(config, options)
        width, own = config.d_model, self.options.channels
        self.levels = nn.ModuleList(nn.Linear(width, own) for _ in range(config.num_levels))
        assert config.backbone_config is not None  # filled in by the configuration
        self.fine = nn.Conv2d(finest_channels(as_backbone_config(config.backbone_config)), own, 1)
        self.norm = nn.LayerNorm(own)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(own, own, 3, padding=1) for _ in range(self.options.convolutions)
        )
        self.kernels = FullMLP(width, width, own + FORM)
        o = self.options
        self.weights = MaskWeights(o.mask_cost, o.dice_cost, o.mask_loss_coefficient, o.dice_loss_coefficient)

    @classmethod
    def check(cls, config: FocusDetrConfig, options: dict[str, Any]) -> None:
        chosen: MaskOptions = read_options(cls.options_class, options, "head_options")
        coefficients = {
            name: (0, math.inf) for name in vars(chosen) if name.endswith(("_cost", "_coefficient"))
        }
        check_ranges(
            chosen, "head_options", channels=(1, 1024), convolutions=(0, 16), places=(1, 128), **coefficients
        )

    def start(self) -> None:
        last = cast(nn.Linear, self.kernels.layers[-1])
        # Whole tensors: parts of them would not be known as loaded, and be set again.
        weight, bias = last.weight.detach().clone(), last.bias.detach().clone()
        weight[-FORM:], bias[-FORM:] = 0.0, torch.tensor(_ELLIPSE)
        init.copy_(last.weight, weight)
        init.copy_(last.bias, bias)

    def forward(self, decoded: DecoderOutput, memory: Memory) -> dict[str, Tensor]:
        fine = memory.fine_map
        assert fine is not None
        return {
            "kernels": self.kernels(decoded.last),
            "pixels": self._pixels(memory, fine),
            "sizes": fine.sizes,
        }

    def joint(
        self, predicted: Any, decoded: DecoderOutput, labels: list[dict[str, Tensor]]
    ) -> list[MaskPredictions]:
        pixels = widened(predicted["pixels"])
        objects = ObjectPlaces.of(pixels, predicted["sizes"], labels, self.options.places, self.training)
        return [MaskPredictions(self.kernels(state), objects, self.weights) for state in decoded.states]

    def _pixels(self, memory: Memory, fine: FineMap) -> Tensor:
        # (B,E,H,W): the backbone's map, and on it the tokens of every level, worked on or not.
        geometry: Geometry = memory.geometry
        canvas = (fine.content.shape[2], fine.content.shape[3])
        mixed = self.fine(fine.content).permute(0, 2, 3, 1)  # (B,H,W,E)
        parts = zip(self.levels, geometry.split(memory.on_grid()), geometry.shapes, strict=True)
        for level, (project, tokens, shape) in enumerate(parts):
            grid = project(tokens).unflatten(1, shape)  # (B,H_l,W_l,E)
            mixed = mixed + resampled(grid, geometry.sizes[:, level], canvas, fine.sizes)
        pixels = self.norm(mixed).permute(0, 3, 1, 2)
        inside = _inside(fine, canvas) if fine.padded else None
        for convolve in self.convolutions:
            # Beyond its edge an image is zero, whether its canvas ends there or not.
            pixels = F.relu(pixels if inside is None else pixels * inside)
            pixels = pixels + convolve(pixels)
        return pixels if inside is None else pixels * inside


def _inside(fine: FineMap, canvas: tuple[int, int]) -> Tensor:
    # (B,1,H,W), 1 for the image's part.
    height, width = (torch.arange(side, device=fine.sizes.device) for side in canvas)
    rows, columns = height < fine.sizes[:, :1], width < fine.sizes[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(fine.content.dtype)
