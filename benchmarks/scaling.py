"""What training on many GPUs takes, on paper: memory, bytes to exchange, and the lists of a data set.

    python benchmarks/scaling.py --preset focus-detr-r50

Parameters are counted; memory and bytes follow by the formulas of docs/scaling.md. What an image's record
takes is measured, of images with --objects objects each, in this process.
"""

from __future__ import annotations

import argparse
import tracemalloc
from pathlib import Path

import numpy as np

from focus_detr import FocusDetrForObjectDetection
from focus_detr.data import Record
from focus_detr.structures.instances import Instances
from focus_detr.zoo.presets import preset

GPUS = (8, 16, 32, 64)
_MEASURED = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="focus-detr-r50")
    parser.add_argument(
        "--objects", type=int, default=8, help="of an image: 7.3 in COCO, about 15 in Objects365"
    )
    said = parser.parse_args()
    model = FocusDetrForObjectDetection(preset(said.preset))
    count = sum(parameter.numel() for parameter in model.parameters())
    learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(f"{said.preset}: {count / 1e6:.1f} M parameters, {learned / 1e6:.1f} M learned")
    # float32: weights, average, buckets of gradients; two moments of Adam.
    whole = 4 * (2 * count + 2 * learned + 2 * learned)
    print("GPUs | DDP, GiB a GPU | FSDP, GiB a GPU | all-reduce, MB a GPU and step | FSDP, MB")
    for gpus in GPUS:
        share = (gpus - 1) / gpus
        shards = 4 * (2 * count + 3 * learned) / gpus + 4 * count
        reduced, gathered = 2 * share * 4 * learned, share * 4 * (count + learned)
        row = (whole / 2**30, shards / 2**30, reduced / 1e6, gathered / 1e6)
        print(f"{gpus} | " + " | ".join(f"{value:.3g}" for value in row))
    print(f"a record: {bytes_of_a_record(said.objects):.0f} bytes with {said.objects} objects")


def bytes_of_a_record(objects: int) -> float:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    records = [
        Record(
            path=Path(f"/data/coco/train2017/{number:012d}.jpg"),
            image_id=number,
            stated=Instances(
                np.zeros((objects, 4), np.float32), np.zeros(objects, np.int64), areas=np.zeros(objects)
            ),
            known_size=(640, 480),
        )
        for number in range(_MEASURED)
    ]
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / len(records)


if __name__ == "__main__":
    main()
