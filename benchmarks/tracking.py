"""Tracks against those of labelled clips: HOTA, MOTA and IDF1, by the package `trackers`.

    python benchmarks/tracking.py CLIPS

CLIPS holds folders in MOTChallenge form (`gt/gt.txt`, `seqinfo.ini`). No bundled model knows their classes,
so detections are given: the labelled boxes, made worse by chance, the same for all. What is measured is
therefore the tracking alone.
"""

from __future__ import annotations

import argparse
import configparser
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import main, parser, write
from trackers.eval import evaluate_mot_sequence

from focus_detr.inference.results import Detections
from focus_detr.inference.tracking import Tracking
from focus_detr.structures.frame import Frame
from focus_detr.structures.instances import Instances

MISSED, FALSE, TREMBLE = 0.1, 0.1, 0.05
"""Share of boxes left out, boxes a frame of nothing, and how far sides are off as a share of the box's."""


def run(options: argparse.Namespace) -> None:
    rows = []
    for clip in sorted(path.parent.parent for path in options.clips.glob("*/gt/gt.txt")):
        for every in (1, 3, 5):
            with tempfile.TemporaryDirectory() as folder:
                truth, file = Path(folder) / "gt.txt", Path(folder) / "tracks.txt"
                labels = np.loadtxt(clip / "gt" / "gt.txt", delimiter=",", ndmin=2)
                labels[:, 7] = 1  # the one class that is scored
                np.savetxt(truth, labels, delimiter=",", fmt="%g")
                file.write_text("".join(tracked(clip, every)))
                scores: Any = evaluate_mot_sequence(truth, file, metrics=["CLEAR", "HOTA", "Identity"])
            rows.append({
                "clip": clip.name, "detect_every": every, "HOTA": round(scores.HOTA.HOTA, 3),
                "MOTA": round(scores.CLEAR.MOTA, 3), "IDF1": round(scores.Identity.IDF1, 3),
                "switches": int(scores.CLEAR.IDSW),
            })  # fmt: skip
    write("tracking", rows, options.output)


def tracked(clip: Path, every: int) -> Iterator[str]:
    """Lines of a MOTChallenge result."""
    tracking = Tracking(0.5, ("object",), detect_every=every)
    for result in detections(clip):
        place = tracking.place(result.frame)
        found = tracking.follow(result, place)
        assert found.track_ids is not None and result.frame is not None
        for number, (left, top, right, bottom) in zip(found.track_ids, found.boxes_xyxy, strict=True):
            if number >= 0:
                box = f"{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f}"
                yield f"{result.frame.index + 1},{number},{box},1,-1,-1,-1\n"


def detections(clip: Path) -> Iterator[Detections]:
    chance = np.random.default_rng(0)
    info = configparser.ConfigParser()
    info.read(clip / "seqinfo.ini")
    sequence = info["Sequence"]
    size = (sequence.getint("imHeight"), sequence.getint("imWidth"))
    labels = np.loadtxt(clip / "gt" / "gt.txt", delimiter=",", ndmin=2)
    for index in range(sequence.getint("seqLength")):
        boxes = labels[labels[:, 0] == index + 1, 2:6]
        boxes = boxes[chance.random(len(boxes)) >= MISSED]
        boxes = boxes + chance.normal(0, TREMBLE, boxes.shape) * np.tile(boxes[:, 2:], 2)
        for _ in range(chance.poisson(FALSE)):
            sides = chance.uniform(8, 40, 2)
            corner = chance.uniform(0, 1, 2) * (np.array(size[::-1]) - sides)
            boxes = np.concatenate([boxes, [[*corner, *sides]]])
        boxes_xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
        scores = chance.uniform(0.3, 1.0, len(boxes)).astype(np.float32)
        place = Frame(
            clip.name, index, index / sequence.getfloat("frameRate"), sequence.getfloat("frameRate")
        )
        yield Detections(
            place.name,
            Instances(boxes_xyxy, np.zeros(len(boxes), np.int64), scores),
            ("object",),
            size,
            frame=place,
        )


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("clips", type=Path)
    main(run, arguments.parse_args())
