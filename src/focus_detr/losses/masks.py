"""Masks are matched and taught at places in and around the box of each object (PointRend, Mask2Former).

Each object has P places on a grid over its box and a little around it, which moves at random from step to
step. What pixels say there is sampled once; all layers, queries and denoising queries are compared with it.
"""

# Shapes: B images, Q queries, T objects of the richest image, E numbers of a pixel, P places, M matches or
# cells of a grid's side, H W height and width of the map.

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focus_detr.errors import FocusDetrError
from focus_detr.losses.targets import Labels, Matches
from focus_detr.structures.pixel_masks import mask_logits

MARGIN = 0.15
"""How far beyond each side of its box an object's places reach, as a share of the side."""
_SMOOTH = 1.0  # of the Dice loss


@dataclass
class MaskWeights:
    """How much the parts count: of a match's cost, and of the loss."""

    mask_cost: float = 2.0
    dice_cost: float = 2.0
    mask_loss: float = 2.0
    dice_loss: float = 2.0


@dataclass
class ObjectPlaces:
    """Places of the objects, what pixels say there, and what is true.

    Attributes:
        places: (B,T,P,2) x and y, fractions of the image.
        pixels: (B,T,P,E); truth: (B,T,P), 0..1.
        known: (B,T), 1 for objects whose masks are said.
        side: places of a row of the grid, of P = side * side.
    """

    places: Tensor
    pixels: Tensor
    truth: Tensor
    known: Tensor
    side: int

    @classmethod
    def of(cls, pixels: Tensor, sizes: Tensor, labels: Labels, side: int, moving: bool) -> ObjectPlaces:
        """From the map (B,E,H,W), where images of ``sizes`` (B,2) lie on it, and labels with ``masks``.

        Args:
            side: places of a row.
            moving: draw where the grids begin; otherwise they lie in the middle.

        Raises:
            FocusDetrError: objects have no masks.
        """
        boxes = pad_sequence([label["boxes"] for label in labels], batch_first=True).to(pixels)
        grids, known = _truth(labels, pixels)
        begin = _begins(labels, moving).to(pixels)  # (B,2)
        steps = torch.arange(side, device=pixels.device, dtype=pixels.dtype)
        rows, columns = ((steps + begin[:, axis, None]) / side for axis in (1, 0))  # (B,side) each, 0..1
        x = columns[:, None, :].expand(-1, side, -1)
        y = rows[:, :, None].expand(-1, -1, side)
        inside = torch.stack([x, y], -1).flatten(1, 2) * (1 + 2 * MARGIN) - MARGIN  # (B,P,2) of a box
        extent = boxes[:, :, None, 2:]
        places = boxes[:, :, None, :2] + (inside[:, None] - 0.5) * extent  # (B,T,P,2)
        places = places.clamp(0, 1)
        inside = (places - boxes[:, :, None, :2]) / extent.clamp(min=1e-6) + 0.5
        truth = F.grid_sample(
            grids.flatten(0, 1)[:, None], 2 * inside.flatten(0, 1)[:, None] - 1, align_corners=False
        )
        truth = truth[:, 0, 0].unflatten(0, grids.shape[:2])  # (B,T,P)
        return cls(places, pixels_at(pixels, sizes, places), truth, known, side)

    def fewer(self) -> ObjectPlaces:
        """A quarter of the places: enough to tell which query is meant."""
        if self.side < 4:
            return self
        every = torch.arange(self.side, device=self.truth.device)[1::2]
        chosen = (every[:, None] * self.side + every).flatten()
        return replace(
            self,
            places=self.places[:, :, chosen],
            pixels=self.pixels[:, :, chosen],
            truth=self.truth[:, :, chosen],
            side=len(every),
        )


@dataclass
class MaskPredictions:
    """What a set of predictions says of masks.

    Attributes:
        kernels: (B,Q,E+6), of each query.
        objects: what is true of the objects.
    """

    kernels: Tensor
    objects: ObjectPlaces
    weights: MaskWeights

    def of_queries(self, which: slice) -> MaskPredictions:
        return replace(self, kernels=self.kernels[:, which])

    def costs(self, boxes: Tensor) -> Tensor:
        """(B,Q,T), of queries with boxes_cxcywh (B,Q,4)."""
        few = self.objects.fewer()
        kernels, boxes = self.kernels[:, :, None].to(few.truth), boxes[:, :, None].to(few.truth)
        logits = mask_logits(kernels, boxes, few.pixels[:, None], few.places[:, None])  # (B,Q,T,P)
        entropy, dice = _losses(logits, few.truth[:, None])
        cost = self.weights.mask_cost * entropy + self.weights.dice_cost * dice
        return cost * few.known[:, None]

    def losses(self, boxes: Tensor, matches: Matches, count: Tensor) -> dict[str, Tensor]:
        """Of queries with boxes_cxcywh (B,Q,4) which answer as ``matches`` say; boxes learn nothing."""
        o = self.objects
        image, query, obj = matches.image, matches.query, matches.object
        logits = mask_logits(
            self.kernels[image, query].to(o.truth),
            boxes.detach()[image, query].to(o.truth),
            o.pixels[image, obj],
            o.places[image, obj],
        )  # (M,P)
        entropy, dice = _losses(logits, o.truth[image, obj])
        known = o.known[image, obj]
        # Every parameter takes part in each step, also in one without objects.
        none = 0.0 * (o.pixels.sum() + self.kernels.sum())
        return {
            "loss_mask": self.weights.mask_loss * (entropy * known).sum() / count + none,
            "loss_dice": self.weights.dice_loss * (dice * known).sum() / count,
        }


def _losses(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    # Means over the places of logits (...,P): cross-entropy, and Dice.
    entropy = (F.softplus(logits) - logits * truth).mean(-1)
    chance = logits.sigmoid()
    shared = (chance * truth).sum(-1)
    dice = 1 - (2 * shared + _SMOOTH) / (chance.sum(-1) + truth.sum(-1) + _SMOOTH)
    return entropy, dice


def _truth(labels: Labels, like: Tensor) -> tuple[Tensor, Tensor]:
    # Grids (B,T,M,M), 0..1, and which of them are known (B,T).
    grids, known = [], []
    for label in labels:
        count = len(label["class_labels"])
        if count and "masks" not in label:
            raise FocusDetrError(
                "labels: objects without 'masks', which a model with the head 'masks' learns from; load the "
                "data set with masks=True, as task segment does"
            )
        masks = label.get("masks")
        grids.append(like.new_zeros(0, 1, 1) if masks is None else masks.to(like) / 255)
        said = label.get("masks_known")
        known.append(like.new_ones(count) if said is None else said.to(like))
    side = max((grid.shape[-1] for grid in grids if len(grid)), default=1)
    grids = [grid if len(grid) else like.new_zeros(0, side, side) for grid in grids]
    return pad_sequence(grids, batch_first=True), pad_sequence(known, batch_first=True)


def _begins(labels: Labels, moving: bool) -> Tensor:
    # (B,2): where between two places of a row and a column each image's grids begin, on the host.
    if not moving:
        return torch.full((len(labels), 2), 0.5)
    seeds = [label.get("noise_seed") for label in labels]
    if any(seed is None for seed in seeds):
        return torch.rand(len(labels), 2)
    numbers = torch.stack([seed.view(()) for seed in seeds if seed is not None]).tolist()
    # Another stream than that of the denoising queries.
    return torch.stack([torch.rand(2, generator=torch.Generator().manual_seed(n ^ 1)) for n in numbers])


def pixels_at(pixels: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    """What pixels (B,E,H,W) say at places (B,T,P,2) of images of ``sizes`` (B,2) on the map: (B,T,P,E).

    Bilinear; an image's cells go on beyond its edge.
    """
    canvas = torch.tensor(pixels.shape[2:], device=pixels.device).to(places)
    own = sizes.to(places)
    cells = places * own.flip(-1)[:, None, None]
    cells = torch.minimum(cells.clamp(min=0.5), (own.flip(-1) - 0.5)[:, None, None])
    found = F.grid_sample(pixels, 2 * cells / canvas.flip(-1) - 1, align_corners=False)  # (B,E,T,P)
    return found.permute(0, 2, 3, 1)
