"""Denoising: noised ground truth as queries, which teach the decoder to put it right (spec 1.11 and 4.1)."""

# Shapes: B images, T objects of all of them, G groups, D = slots * G denoising queries, C channels.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from focus_detr.losses.targets import Labels
from focus_detr.losses.whole_step import most_of_processes
from focus_detr.models.options import check_ranges
from focus_detr.structures.boxes import cxcywh_to_xyxy, inverse_sigmoid, xyxy_to_cxcywh
from focus_detr.structures.queries import DenoisingQueries

# How many numbers to draw, and from what: (count, ...) each, on the host.
Draw = Callable[[int, torch.Generator | None], tuple[Tensor, ...]]


@dataclass(frozen=True)
class NoiseOptions:
    """How far denoising queries are from the objects that they come from."""

    label_noise: float = 0.5
    """How many get a class at random: the share, or twice the share in contrastive denoising."""
    box_noise: float = 1.0
    """How far boxes move, in halves of their sides."""


def check_noise(options: NoiseOptions) -> None:
    """Refuse noise that is none."""
    check_ranges(options, "host_options", label_noise=(0, 1), box_noise=(0, math.inf))


def contrastive_denoising(
    labels: Labels, label_embedding: nn.Embedding, budget: int, label_noise: float, box_noise: float
) -> DenoisingQueries | None:
    """Positives near the objects and negatives further off (DINO); None when no process has an object.

    Random numbers come from torch's global generator on the host, in the original's order. Where the labels
    of every image hold a ``noise_seed`` (one int64), they come from it instead, and an image's noise does not
    depend on its batch. Neither depends on the device, which is not waited for but to read the seeds.

    Args:
        budget: queries of each kind; divided by the objects of the richest image, they give the groups.
        label_noise: twice the share of queries that get a class at random.
        box_noise: how far corners move, in halves of the box: up to once as far for positives, once to twice
            for negatives.
    """
    most = _most_objects(labels, label_embedding)
    if budget == 0 or most == 0:
        return None
    groups = max(1, 2 * budget // (2 * most))
    classes, boxes = _objects(labels, label_embedding)

    def draw(count: int, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        relabelled = _draw_classes(count, label_embedding.num_embeddings, label_noise * 0.5, generator)
        signs = torch.randint(0, 2, (count, 4), generator=generator)
        magnitudes = torch.rand(count, 4, dtype=boxes.dtype, generator=generator)
        return *relabelled, signs.to(boxes.dtype) * 2 - 1, magnitudes

    repeats = 2 * groups
    replace, new_classes, signs, magnitudes = _noise(labels, repeats, draw, boxes.device)
    negative = (torch.arange(repeats, device=boxes.device) % 2 == 1).repeat_interleave(len(classes))
    noised_classes = torch.where(replace, new_classes, classes.repeat(repeats))
    magnitudes = magnitudes + negative[:, None].to(magnitudes.dtype)
    known = boxes.repeat(repeats, 1)
    half = known[:, 2:].repeat(1, 2) / 2
    corners = cxcywh_to_xyxy(known) + signs * magnitudes * half * box_noise
    noised_boxes = xyxy_to_cxcywh(corners.clamp(0, 1))
    return _laid_out(label_embedding(noised_classes), noised_boxes, labels, repeats, most, 2 * most)


def plain_denoising(
    labels: Labels, label_embedding: nn.Embedding, groups: int, label_noise: float, box_noise: float
) -> DenoisingQueries | None:
    """Positives alone (DN-DETR section 4); None when no process has an object. Seeds as above.

    Args:
        label_embedding: of C-1 numbers; the last one says that a query is one of these.
        groups: how often each object is repeated.
        label_noise: share of queries that get a class at random.
        box_noise: how far centres move, in halves of the box, and sides grow or shrink, at most.
    """
    most = _most_objects(labels, label_embedding)
    if groups == 0 or most == 0:
        return None
    classes, boxes = _objects(labels, label_embedding)

    def draw(count: int, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        relabelled = _draw_classes(count, label_embedding.num_embeddings, label_noise, generator)
        moves = torch.rand(count, 4, dtype=boxes.dtype, generator=generator)
        return *relabelled, moves * 2 - 1

    replace, new_classes, moves = _noise(labels, groups, draw, boxes.device)
    embedded = label_embedding(torch.where(replace, new_classes, classes.repeat(groups)))
    embedded = torch.cat([embedded, embedded.new_ones(len(embedded), 1)], 1)
    known = boxes.repeat(groups, 1)
    reach = torch.cat([known[:, 2:] / 2, known[:, 2:]], 1)
    noised_boxes = (known + moves * reach * box_noise).clamp(0, 1)
    return _laid_out(embedded, noised_boxes, labels, groups, most, most)


def _most_objects(labels: Labels, label_embedding: nn.Embedding) -> int:
    # The queries of a step are laid out alike in all processes.
    most = max((len(label["class_labels"]) for label in labels), default=0)
    return most_of_processes(most, label_embedding.weight.device)


def _objects(labels: Labels, label_embedding: nn.Embedding) -> tuple[Tensor, Tensor]:
    # Classes (T,) and boxes_cxcywh (T,4) of the whole batch; places stay float32 in half precision.
    exact = torch.promote_types(label_embedding.weight.dtype, torch.float32)
    boxes = torch.cat([label["boxes"] for label in labels]).to(exact)
    return torch.cat([label["class_labels"] for label in labels]), boxes


def _noise(labels: Labels, repeats: int, draw: Draw, device: torch.device) -> tuple[Tensor, ...]:
    # What draw gives for all objects of the batch, repeat by repeat: (repeats * T, ...) each.
    counts = [len(label["class_labels"]) for label in labels]
    if all("noise_seed" in label for label in labels):
        # Drawn image by image, but laid out like the rest.
        seeds = torch.stack([label["noise_seed"].view(()) for label in labels]).tolist()
        drawn = [
            draw(count * repeats, torch.Generator().manual_seed(seed))
            for count, seed in zip(counts, seeds, strict=True)
        ]
        noise = tuple(
            torch.cat([part[i].unflatten(0, (repeats, -1)) for part in drawn], 1).flatten(0, 1)
            for i in range(len(drawn[0]))
        )
    else:
        noise = draw(sum(counts) * repeats, None)
    return tuple(each.to(device, non_blocking=True) for each in noise)


def _draw_classes(
    count: int, known: int, share: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    # The original draws a new class only for the queries it relabels: the order of calls is part of parity.
    replace = torch.rand(count, generator=generator) < share
    chosen = replace.nonzero().squeeze(1)
    classes = torch.randint(0, known, (len(chosen),), generator=generator)
    return replace, torch.zeros(count, dtype=torch.int64).index_put((chosen,), classes)


def _laid_out(
    embedded: Tensor, boxes: Tensor, labels: Labels, repeats: int, most: int, slots: int
) -> DenoisingQueries:
    # Contents (repeats*T,C) and boxes_cxcywh (repeats*T,4) in their places: the repeat, then the object's
    # place in its image; places without an object are empty.
    counts = [len(label["class_labels"]) for label in labels]
    image = torch.cat([torch.full((count,), i) for i, count in enumerate(counts)])
    place = torch.cat([torch.arange(count) for count in counts])
    slot = torch.arange(repeats)[:, None] * most + place  # (repeats, T)
    rows = torch.stack([image.repeat(repeats), slot.flatten()]).to(boxes.device, non_blocking=True).unbind()
    content = boxes.new_zeros(len(labels), repeats * most, embedded.shape[1])
    logits = boxes.new_zeros(len(labels), repeats * most, 4)
    return DenoisingQueries(
        content.index_put(rows, embedded.to(content.dtype)),
        logits.index_put(rows, inverse_sigmoid(boxes)),
        slots,
        repeats * most // slots,
    )
