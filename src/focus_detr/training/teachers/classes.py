"""Which of a teacher's classes is which of the student's, by name."""

# Shapes: k the student's classes, j the teacher's, N what they are scores of.

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.printable import listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedClasses:
    """The classes that both know.

    Attributes:
        own: labels of the student's.
        sources: of each, the labels that the teacher has for it.
        count: the teacher's classes.
        whole: the student has no others.
    """

    own: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    count: int
    whole: bool

    @classmethod
    def of(
        cls, student: Sequence[str], teacher: Sequence[str], renamed: Mapping[str, str], name: str
    ) -> SharedClasses:
        """Of class names by label.

        Args:
            renamed: the teacher's names to the student's, where they differ.
            name: the teacher, as messages have it.

        Raises:
            FocusDetrError: none is common, or a name in ``renamed`` is of neither.
        """
        for old, new in renamed.items():
            for each, known, whose in ((old, teacher, name), (new, student, "the data")):
                if each not in known:
                    hint = did_you_mean(each, known) or f"; known: {listed(known)}"
                    raise FocusDetrError(f"teacher.classes: {whose} has no class {each!r}{hint}")
        said = [renamed.get(each, each) for each in teacher]
        sources = {
            label: tuple(number for number, other in enumerate(said) if other == own)
            for label, own in enumerate(student)
        }
        common = {label: found for label, found in sources.items() if found}
        if not common:
            raise FocusDetrError(
                f"teacher {name!r} detects {listed(teacher)}, the data have {listed(student)}: no "
                "class is common. Say which is which, as in --set 'teacher.classes={car: vehicle}', or "
                "take a teacher that was trained on these classes"
            )
        untaught = [own for label, own in enumerate(student) if label not in common]
        if untaught:
            logger.warning("teacher %s does not know %s: labels alone teach them", name, listed(untaught))
        left_out = [each for each, known in zip(teacher, said, strict=True) if known not in student]
        if left_out:
            logger.info("teacher %s: the data have no %s: left out", name, listed(left_out))
        return cls(tuple(common), tuple(common.values()), len(teacher), not untaught)

    def of_teacher(self, logits: Tensor, softmax: bool) -> Tensor:
        """The teacher's logits (...,j) of the common classes, in the student's order; with ``softmax`` what
        else it knows is part of "no object", last."""
        columns = [logits[..., list(found)] for found in self.sources]
        if not softmax:
            return torch.stack([each.amax(-1) for each in columns], -1)
        rest = [*(set(range(self.count)) - {label for found in self.sources for label in found}), self.count]
        columns.append(logits[..., rest])
        return torch.stack([each.logsumexp(-1) for each in columns], -1)

    def of_student(self, logits: Tensor) -> Tensor:
        """The student's logits (...,k) of the common classes."""
        return logits if self.whole else logits[..., list(self.own)]
