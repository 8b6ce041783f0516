"""The largest micro-batch of a run, of grey pictures: what memory must hold."""

# Shapes: m images, H and W of the batch, T objects.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from focus_detr.data import Sample, TransformedDataset
from focus_detr.data.transforms.draws import shape_of
from focus_detr.data.transforms.geometric import resize
from focus_detr.data.transforms.outcomes import Sizes, outcomes
from focus_detr.errors import FocusDetrError

_GREY = (114, 114, 114)
Collate = Callable[[Sequence[Sample]], dict[str, Any]]


def largest_sizes(dataset: TransformedDataset, count: int) -> Sizes:
    """(height, width) of ``count`` pictures that come together and are padded to the most pixels, as the
    transforms can make those of the data set."""
    kinds: dict[tuple[int, bool], tuple[int, int]] = {}
    for width, height in filter(None, dataset.dataset.sizes()):
        kinds.setdefault((shape_of(height, width), height > width), (height, width))
    shapes = tuple(kinds.values())
    if not shapes:
        raise FocusDetrError(f"{dataset.dataset.name}: none of its images can be read")
    batches = set(outcomes(dataset.transforms, shapes))
    if count == 1:  # nothing is padded
        return (max((size for batch in batches for size in batch), key=lambda size: size[0] * size[1]),)
    # The tallest and the widest of a batch, wherever they meet, set its size.
    pairs = [(max(batch), max(batch, key=lambda size: size[::-1])) for batch in batches]
    tallest, widest = max(pairs, key=lambda pair: (pair[0][0] * pair[1][1], _pixels(pair)))
    return tuple(tallest if number % 2 else widest for number in range(count))


def largest_batch(dataset: TransformedDataset, collator: Collate, count: int) -> dict[str, Any]:
    """A micro-batch of ``count`` images of `largest_sizes`, (m,3,H,W), each with the objects (T,) of the one
    that has most of them."""
    sizes = largest_sizes(dataset, count)
    readable = [record for record in dataset.dataset.records if record.known_size is not None]
    record = max(readable, key=lambda record: len(record.labels))
    width, height = record.size
    whole = Sample(
        Image.new("RGB", (width, height), _GREY),
        record.instances.copy(),
        record.image_id,
        record.path,
        (height, width),
        noise_seed=0,
        taught=None if record.taught is None else record.taught.copy(),
    )
    made = {size: resize(whole, *size) for size in set(sizes)}
    return collator([made[size] for size in sizes])


def _pixels(sizes: Sizes) -> int:
    return sum(height * width for height, width in sizes)
