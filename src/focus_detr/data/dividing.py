"""A data set without a validation split, divided in two by chance, every class on both sides."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.same_files import same_files
from focus_detr.errors import FocusDetrError

_EMPTY = -1  # stands for a class of the pictures without an object
_DRAWS = 16


def divide(
    dataset: DetectionDataset, share: float, seed: int, groups: Sequence[Sequence[int]] | None = None
) -> list[int]:
    """Positions of the records to hold back: of about ``share`` of the pictures.

    Each class has about that share of its pictures held back, and one at least on both sides where it has
    two (as far as pictures that show several classes allow). A picture that is there twice stays together.

    Args:
        groups: positions that stay together, each position once; the same files when not given.

    Raises:
        FocusDetrError: there are too few pictures with objects to divide.
    """
    if groups is None:
        groups = same_files([record.path for record in dataset.records])
    classes = [
        {int(label) for position in group for label in dataset.records[position].labels} or {_EMPTY}
        for group in groups
    ]
    chance = random.Random(seed)
    # Which of the pictures of several classes go first decides whether all classes get their share.
    draws = [_draw(classes, share, chance) for _ in range(_DRAWS)]
    held = min(draws, key=lambda drawn: (len(one_sided(classes, drawn)), _error(classes, drawn, share)))
    if not any(classes[unit] != {_EMPTY} for unit in held):
        raise FocusDetrError(
            f"{dataset.name}: {share:.0%} of the {len(groups)} pictures of {dataset.split!r} cannot be held "
            "back: no class has two pictures, one to learn and one to measure on. Add pictures, or train "
            "without evaluating"
        )
    return sorted(position for unit in held for position in groups[unit])


def one_sided(classes: Sequence[set[int]], held: set[int]) -> set[int]:
    """Classes of two pictures or more that are all held back, or none of them; -1 is none."""
    pictures = Counter(label for unit in classes for label in unit)
    there = Counter(label for unit in held for label in classes[unit])
    return {
        label
        for label, count in pictures.items()
        if label != _EMPTY and count > 1 and there[label] in (0, count)
    }


def _draw(classes: Sequence[set[int]], share: float, chance: random.Random) -> set[int]:
    """Pictures to hold back, chosen for one class after the other, the rarest first."""
    units_of: dict[int, list[int]] = defaultdict(list)
    for unit in chance.sample(range(len(classes)), len(classes)):
        for label in sorted(classes[unit]):
            units_of[label].append(unit)
    wanted = {label: _wanted(len(units), share, label) for label, units in units_of.items()}
    counts: Counter[int] = Counter()
    held: set[int] = set()

    def hold(units: Sequence[int], enough: int, already: int) -> None:
        # First the pictures of which no class has its share yet; among them those of classes with none.
        def rank(unit: int) -> tuple[int, int]:
            labels = classes[unit]
            over = sum(counts[label] >= wanted[label] for label in labels)
            return over, -sum(not counts[label] and label != _EMPTY for label in labels)

        for unit in sorted((unit for unit in units if unit not in held), key=rank):
            if already >= enough:
                return
            if all(label == _EMPTY or counts[label] + 1 < len(units_of[label]) for label in classes[unit]):
                held.add(unit)
                counts.update(classes[unit])
                already += 1

    for label in sorted(units_of, key=lambda each: (len(units_of[each]), each)):
        hold(units_of[label], wanted[label], counts[label])
    hold(chance.sample(range(len(classes)), len(classes)), round(share * len(classes)), len(held))
    return held


def _wanted(pictures: int, share: float, label: int) -> int:
    if label == _EMPTY:
        return round(share * pictures)
    return min(max(round(share * pictures), 1), pictures - 1)


def _error(classes: Sequence[set[int]], held: set[int], share: float) -> float:
    """How far the classes' shares are from ``share``, in pictures."""
    pictures = Counter(label for unit in classes for label in unit)
    there = Counter(label for unit in held for label in classes[unit])
    return sum(abs(there[label] - share * count) for label, count in pictures.items())
