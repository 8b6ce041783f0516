"""Merging: what was found in overlapping tiles of one picture, each object once and whole.

Where a box ends at an edge of its tile inside the picture, the object may go on. A detection without such a
side is *whole*, the others are *parts*. All that follows is said of detections of one class.

1. Whole detections of different tiles that overlap by half are one object. Its box is that of the closest
   look, its score the best of all. One that closer looks show as two or more, which fill half of it, is
   none: from afar, a crowd may look like one large thing.
2. A part that lies in a whole object is a part of it.
3. Parts that are left, of objects that no tile showed whole or that were not found there, belong together
   where two tiles agree on what both see. The object is what its parts cover.
4. Of these, too, a smaller one that lies in an object is a part of it.

A tile's own detections never rival one another: it has seen them side by side.
"""

# Shapes: T detections, A and B those of two tiles.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from focus_detr.inference.tiles import Tile
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, as_array

SAME = 0.5
"""Intersection over union from which on two tiles' detections are one object."""

INSIDE = 0.7
"""Share of its area that a part has in its object, at least: boxes of cut objects are not exact."""

FILLED = 0.5
"""Share of a box that two objects or more in it fill, which are then what is there."""

MARGIN = 0.01
"""How much boxes are off, as a share of the tile's longer side, two pixels that the model sees at least: the
box of a cut object ends so near an edge of its tile."""

_PLACES = 32

Agreement = Callable[["_Looks", np.ndarray, np.ndarray], np.ndarray]


def merge(tiles: Sequence[Tile], found: Sequence[Instances]) -> Instances:
    """The objects of a picture, best first.

    Args:
        tiles: those looked at, one at least.
        found: the detections in each tile, with scores, in pixels of the picture.
    """
    everything = Instances.concatenate(found)
    if len(tiles) == 1 or not len(everything):
        return everything
    looks = _Looks(tiles, found, everything)
    objects = [_merged(looks, np.flatnonzero(everything.labels == label)) for label in set(everything.labels)]
    groups = [group for each in objects for group in each.groups]
    # Whatever else is known of an object is what its best detection says.
    best = np.array([min(group, key=lambda index: (-looks.scores[index], index)) for group in groups])
    merged = replace(everything[best], boxes_xyxy=np.concatenate([each.boxes for each in objects]))
    if merged.masks is not None:
        boxes = merged.boxes_xyxy
        masks = [_mask(looks, everything.masks, group, box) for group, box in zip(groups, boxes, strict=True)]
        merged = replace(merged, masks=as_array(masks))
    order = np.lexsort((best, -looks.scores[best]))
    return replace(merged, boxes_xyxy=merged.boxes_xyxy.astype(everything.boxes_xyxy.dtype))[order]


def _mask(looks: _Looks, masks: Any, group: Sequence[int], box: np.ndarray) -> Mask:
    """That of the closest look at an object that was seen whole; of one that was not, all that its parts
    cover."""
    if not looks.is_part[list(group)].any():
        return masks[looks.closest(group)]
    return Mask.union([masks[index] for index in group], box)


class _Looks:
    """All detections, and the tiles that they were found in."""

    def __init__(self, tiles: Sequence[Tile], found: Sequence[Instances], everything: Instances) -> None:
        self.tile_of = np.repeat(np.arange(len(tiles)), [len(each) for each in found])  # (T,)
        self.boxes = everything.boxes_xyxy.astype(np.float64)  # (T,4)
        self.scores = np.ones(len(everything)) if everything.scores is None else everything.scores
        self.levels = np.array([tile.level for tile in tiles])[self.tile_of]
        self.edges = np.array([tile.box for tile in tiles], dtype=np.float64)  # (tiles,4)
        self.margins = np.array(
            [max(MARGIN * max(tile.size), 2 * tile.size[0] / tile.seen_size[0]) for tile in tiles]
        )
        inner = np.array([tile.inner for tile in tiles])[self.tile_of]  # (T,4)
        near = np.abs(self.boxes - self.edges[self.tile_of]) <= self.margins[self.tile_of, None]
        self.is_part = np.logical_or.reduce(inner & near, axis=1)

    def closest(self, group: Sequence[int]) -> int:
        """The detection of the closest look at an object."""
        return min(group, key=lambda index: (self.levels[index], -self.scores[index], index))

    def hull(self, group: Sequence[int]) -> np.ndarray:
        """The box (4,) around the parts of an object."""
        boxes = self.boxes[group]
        return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])

    def meeting(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The chosen detections in each two tiles that overlap or touch."""
        order = chosen[np.argsort(self.tile_of[chosen], kind="stable")]
        present, begins = np.unique(self.tile_of[order], return_index=True)
        members = np.split(order, begins[1:])
        low = np.maximum(self.edges[present, None, :2], self.edges[None, present, :2])
        high = np.minimum(self.edges[present, None, 2:], self.edges[None, present, 2:])
        for a, b in np.argwhere(np.triu((high >= low).all(axis=2), k=1)):
            yield members[a], members[b]


class _Objects:
    """The objects of one class: the detections that each is made of, and its box."""

    def __init__(self, looks: _Looks, count: int) -> None:
        self._looks = looks
        self._boxes = np.zeros((count, 4), order="F")  # each side by itself, to be compared fast
        self._seen_in = np.zeros((count, len(looks.edges)), dtype=bool)
        self.groups: list[Sequence[int]] = []

    @property
    def boxes(self) -> np.ndarray:
        return self._boxes[: len(self.groups)]

    def add(self, group: Sequence[int], box: np.ndarray) -> None:
        self._boxes[len(self.groups)] = box
        self._seen_in[len(self.groups), self._looks.tile_of[group]] = True
        self.groups.append(group)

    def hold(self, group: Sequence[int], box: np.ndarray) -> bool:
        """Whether what the group shows is in an object already, of which its tiles say nothing else."""
        # A sliver of an object may lie beside its box by what boxes are off.
        margin = self._looks.margins[self._looks.tile_of[group]].max()
        boxes, area = self.boxes[self._near(group, box, margin)], _area(box)
        shared = _shared(box, boxes)
        alike = shared >= SAME * (area + _area(boxes) - shared)
        inside = _shared(box, boxes + margin * np.array([-1, -1, 1, 1])) >= INSIDE * area
        return bool((alike | inside).any())

    def fill(self, group: Sequence[int], box: np.ndarray) -> bool:
        """Whether two objects or more make up most of what the group shows as one."""
        boxes = self.boxes[self._near(group, box, 0.0)]
        boxes = boxes[_shared(box, boxes) >= INSIDE * _area(boxes)]
        if len(boxes) < 2:
            return False
        places = (np.arange(_PLACES) + 0.5) / _PLACES  # along each side of the box
        x, y = box[:2, None] + places * (box[2:] - box[:2])[:, None]
        across = (x >= boxes[:, :1]) & (x < boxes[:, 2:3])  # (B,_PLACES)
        down = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:])
        return bool((down.T.astype(int) @ across.astype(int) > 0).mean() >= FILLED)

    def _near(self, group: Sequence[int], box: np.ndarray, margin: float) -> np.ndarray:
        """Those that touch a box, of which the group's own tiles say nothing else."""
        left, top, right, bottom = self.boxes.T
        meet = (left < box[2] + margin) & (right > box[0] - margin)
        near = np.flatnonzero(meet & (top < box[3] + margin) & (bottom > box[1] - margin))
        rivals = self._seen_in[np.ix_(near, self._looks.tile_of[group])]
        return near[~np.logical_or.reduce(rivals, axis=1)]


def _merged(looks: _Looks, of_class: np.ndarray) -> _Objects:
    is_part = looks.is_part[of_class]
    objects = _Objects(looks, len(of_class))
    groups = _grouped(looks, of_class[~is_part], _overlap)
    closest = [looks.closest(group) for group in groups]
    for level in range(looks.levels.max() + 1):
        here = [
            (looks.boxes[best], group)
            for best, group in zip(closest, groups, strict=True)
            if looks.levels[best] == level
        ]
        # All of a level against those of closer ones, before any of them is added.
        for box, group in [each for each in here if not objects.fill(each[1], each[0])]:
            objects.add(group, box)
    parts = [index for index in of_class[is_part] if not objects.hold([index], looks.boxes[index])]
    joined = [(looks.hull(group), group) for group in _grouped(looks, np.array(parts, dtype=int), _agreement)]
    for box, group in sorted(joined, key=lambda item: -_area(item[0])):
        if not objects.hold(group, box):
            objects.add(group, box)
    return objects


def _grouped(looks: _Looks, chosen: np.ndarray, alike: Agreement) -> list[list[int]]:
    """The chosen detections, those that are alike together: the most alike first, of a tile one at most."""
    pairs: list[tuple[float, int, int]] = []
    for of_a, of_b in looks.meeting(chosen):
        likeness = alike(looks, of_a, of_b)
        pairs += [(-likeness[a, b], of_a[a], of_b[b]) for a, b in np.argwhere(likeness >= SAME)]
    group_of = {int(index): [int(index)] for index in chosen}
    for _, first, second in sorted(pairs):
        one, other = group_of[first], group_of[second]
        if {*looks.tile_of[one]}.isdisjoint(looks.tile_of[other]):
            one += other
            group_of.update(dict.fromkeys(other, one))
    return [group for index, group in group_of.items() if group[0] == index]


def _overlap(looks: _Looks, of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
    """Intersection over union (A,B) of detections in two tiles."""
    a, b = looks.boxes[of_a, None], looks.boxes[None, of_b]
    shared = _shared(a, b)
    return shared / (_area(a) + _area(b) - shared)


def _agreement(looks: _Looks, of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
    """How well (A,B), 0 to 1, detections in two tiles agree where the tiles overlap.

    It is, along each axis, the intersection over union of what both say of the strip that both see; where
    that is no more than a line, whether both reach it.
    """
    tile_a, tile_b = looks.tile_of[of_a[0]], looks.tile_of[of_b[0]]
    margin = max(looks.margins[tile_a], looks.margins[tile_b])
    result = np.ones((len(of_a), len(of_b)))
    for low, high in ((0, 2), (1, 3)):
        begin = max(looks.edges[tile_a, low], looks.edges[tile_b, low])
        end = min(looks.edges[tile_a, high], looks.edges[tile_b, high])
        a, b = looks.boxes[of_a][:, [low, high]], looks.boxes[of_b][:, [low, high]]
        if end - begin <= 2 * margin:
            reach_a, reach_b = (
                (each[:, 0] <= end + margin) & (each[:, 1] >= begin - margin) for each in (a, b)
            )
            result *= reach_a[:, None] & reach_b[None]
            continue
        a, b = a.clip(begin, end)[:, None], b.clip(begin, end)[None]
        shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
        union = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
        result *= np.clip(shared, 0, None) / np.maximum(union, 1e-9)
    return result


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The area in common of boxes (...,4) that broadcast."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return sides.clip(0).prod(axis=-1)


def _area(boxes_xyxy: np.ndarray) -> np.ndarray:
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).prod(axis=-1)
