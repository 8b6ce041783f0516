"""Sizes and shapes of pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from focus_detr.data.doctor.findings import Example, Finding, Subject
from focus_detr.printable import counted, in_number

_SMALLEST = 64
_STRIP = 5.0
_SHOWN = 4


def odd_sized_pictures(subject: Subject) -> Iterator[Finding]:
    """Pictures of a few pixels, and strips, of which resizing leaves little."""
    for split, dataset in subject.datasets.items():
        # Of those that cannot be read, nobody knows.
        sizes = [
            (record, size) for record, size in zip(dataset.records, dataset.sizes(), strict=True) if size
        ]
        if not sizes:
            continue
        low = [record for record, size in sizes if min(size) < _SMALLEST]
        strips = [record for record, size in sizes if max(size) > _STRIP * min(size)]
        median = np.median([size for _, size in sizes], axis=0)
        typical = f"the median is {median[0]:.0f}x{median[1]:.0f}"
        for kind, found, what, fix in (
            (
                "small-pictures",
                low,
                f"[is|are] under {_SMALLEST} pixels high or wide",
                "Look whether they are icons or cut off.",
            ),
            (
                "strips",
                strips,
                f"[is|are] over {_STRIP:.0f} times as long as wide",
                "Cut them into parts, or predict with --tile: resized as a whole, little is left.",
            ),
        ):
            if found:
                yield Finding(
                    kind,
                    "warning",
                    str(found[0].path),
                    in_number(f"{{count}} of {counted(len(sizes), 'picture')} {what}; {typical}", len(found)),
                    fix,
                    split,
                    examples=tuple(
                        Example(each.path, None, "x".join(map(str, each.size))) for each in found[:_SHOWN]
                    ),
                )
