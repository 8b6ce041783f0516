"""A data set without a validation split, divided in two by chance, every class on both sides."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.same_files import same_files
from focus_detr.errors import FocusDetrError
from focus_detr.printable import counted

_EMPTY = -1  # stands for a class of the pictures without an object
_DRAWS = 16
_ROUNDS = 8


@dataclass(frozen=True)
class _Group:
    """Pictures that stay together: how many, and how many of them show each class."""

    size: int
    counts: dict[int, int]


def divide(
    dataset: DetectionDataset, share: float, seed: int, groups: Sequence[Sequence[int]] | None = None
) -> list[int]:
    """Positions of the records to hold back: of about ``share`` of the pictures.

    Each class has about that share of its pictures held back, and one at least on both sides where it has
    two (as far as pictures that show several classes, and those that stay together, allow). A picture that is
    there twice stays together.

    Args:
        groups: positions that stay together, each position once; the same files when not given.

    Raises:
        FocusDetrError: there are too few pictures with objects to divide.
    """
    if groups is None:
        groups = same_files([record.path for record in dataset.records])
    found = [_group(dataset, group) for group in groups]
    chance = random.Random(seed)
    # Which of the groups of several classes go first decides whether all classes get their share.
    division = min((_drawn(found, share, chance) for _ in range(_DRAWS)), key=_Division.error)
    _improve(division, chance)
    _fill(division, chance)
    if not any(label != _EMPTY for group in division.held for label in found[group].counts):
        raise FocusDetrError(
            f"{dataset.name}: {share:.0%} of {counted(len(dataset), 'picture')} of {dataset.split!r} cannot "
            "be held back: no class has two pictures, of which none looks like the other, one to learn and "
            "one to measure on. Add pictures, or train without evaluating"
        )
    return sorted(position for group in division.held for position in groups[group])


def _group(dataset: DetectionDataset, positions: Sequence[int]) -> _Group:
    classes = [{int(label) for label in dataset.records[each].labels} or {_EMPTY} for each in positions]
    return _Group(len(positions), dict(Counter(label for labels in classes for label in sorted(labels))))


class _Division:
    """Groups held back, and how far that is from the share of each class and of all pictures."""

    def __init__(self, groups: Sequence[_Group], share: float) -> None:
        self.groups = groups
        self.held: set[int] = set()
        self.groups_of: dict[int, list[int]] = defaultdict(list)
        """By class; those of `_EMPTY` show none."""
        self.there: Counter[int] = Counter()
        """Groups of each class that are held back."""
        self.over: dict[int, float] = defaultdict(float)
        """Pictures held back beyond the share of each class, and of all."""
        self.over_all = -share * sum(group.size for group in groups)
        for number, group in enumerate(groups):
            for label, count in group.counts.items():
                self.groups_of[label].append(number)
                self.over[label] -= share * count

    def may_move(self, number: int) -> bool:
        """Whether each class of the group is still on both sides, or where it was not, learned."""
        ahead = -1 if number in self.held else 1
        return all(
            label == _EMPTY or 0 < self.there[label] + ahead < len(self.groups_of[label])
            for label in self.groups[number].counts
        )

    def learned(self, numbers: Sequence[int], chance: random.Random) -> list[int]:
        """Those of the groups that are not held back, by chance; first those that are best held back next."""

        def rank(number: int) -> tuple[int, int]:
            # First the groups of which no class has its share yet; among them those of classes with none.
            labels = self.groups[number].counts
            over = sum(self.over[label] >= 0 for label in labels)
            return over, -sum(not self.there[label] and label != _EMPTY for label in labels)

        return sorted(
            (each for each in chance.sample(numbers, len(numbers)) if each not in self.held), key=rank
        )

    def move(self, number: int) -> None:
        """The group changes its side."""
        ahead = -1 if number in self.held else 1
        self.held ^= {number}
        self.over_all += ahead * self.groups[number].size
        for label, count in self.groups[number].counts.items():
            self.there[label] += ahead
            self.over[label] += ahead * count

    def gain(self, number: int) -> tuple[float, float]:
        """Pictures by which classes, then all, would be nearer to the share if the group changed its side."""
        group, ahead = self.groups[number], -1 if number in self.held else 1
        of_classes = sum(
            abs(self.over[label]) - abs(self.over[label] + ahead * count)
            for label, count in group.counts.items()
        )
        of_all = abs(self.over_all) - abs(self.over_all + ahead * group.size)
        return round(of_classes, 6), round(of_all, 6)

    def error(self) -> tuple[int, float, float]:
        """Classes of two groups or more that are on one side; pictures off the share, by class and of all."""
        one_sided = sum(
            label != _EMPTY and len(groups) > 1 and self.there[label] in (0, len(groups))
            for label, groups in self.groups_of.items()
        )
        return one_sided, sum(map(abs, self.over.values())), abs(self.over_all)


def _drawn(groups: Sequence[_Group], share: float, chance: random.Random) -> _Division:
    """By chance, for one class after the other, the rarest first."""
    division = _Division(groups, share)
    for label in sorted(division.groups_of, key=lambda each: (len(division.groups_of[each]), each)):
        for number in division.learned(division.groups_of[label], chance):
            if division.over[label] + groups[number].counts[label] <= 0.5 and division.may_move(number):
                division.move(number)
        if label != _EMPTY and not division.there[label]:  # none is as small as the share
            rest = [
                each
                for each in division.learned(division.groups_of[label], chance)
                if division.may_move(each)
            ]
            if rest:
                division.move(min(rest, key=lambda each: groups[each].counts[label]))
    return division


def _improve(division: _Division, chance: random.Random) -> None:
    """Single groups change their side while that brings the division nearer to the share."""
    for _ in range(_ROUNDS):
        moved = False
        for number in chance.sample(range(len(division.groups)), len(division.groups)):
            if division.gain(number) > (0, 0) and division.may_move(number):
                division.move(number)
                moved = True
        if not moved:
            return


def _fill(division: _Division, chance: random.Random) -> None:
    """What is short of the share of all, which classes that go together in pictures may leave."""
    for number in division.learned(range(len(division.groups)), chance):
        if division.over_all + division.groups[number].size <= 0.5 and division.may_move(number):
            division.move(number)
