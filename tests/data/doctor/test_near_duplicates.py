"""Alike pictures are found among many, in about as many steps as there are pictures."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from focus_detr.data.doctor import near_duplicates as module
from focus_detr.data.doctor.hashing import perceptual_hash, thumbnail
from focus_detr.data.doctor.near_duplicates import NEAREST, groups_of, near_duplicates
from helpers.doctor_data import scene


def _seen(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    grey = [image.convert("L") for image in images]
    return np.array([perceptual_hash(each) for each in grey]), np.stack([thumbnail(each) for each in grey])


def _planted(count: int, twins: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, set[tuple[int, int]]]:
    """Random hashes, some of which are others with up to seven bits flipped."""
    chance = np.random.default_rng(seed)
    hashes = chance.integers(0, 2**63, count, dtype=np.uint64)
    thumbnails = chance.integers(0, 256, (count, 256), dtype=np.uint8)
    pairs = set()
    for number in range(twins):
        bits = chance.choice(64, chance.integers(0, NEAREST + 1), replace=False)
        hashes[count - 1 - number] = hashes[number] ^ np.uint64(sum(1 << int(bit) for bit in bits))
        thumbnails[count - 1 - number] = thumbnails[number]
        pairs.add((number, count - 1 - number))
    return hashes, thumbnails, pairs


def test_all_pairs_up_to_seven_bits_apart_are_found_and_no_others() -> None:
    hashes, thumbnails, pairs = _planted(3000, 300)
    assert set(map(tuple, near_duplicates(hashes, thumbnails).tolist())) == pairs


def test_thumbnails_decide_where_hashes_are_near() -> None:
    hashes, thumbnails, pairs = _planted(100, 10)
    thumbnails[-10:] = np.random.default_rng(5).integers(0, 256, (10, 256))
    assert len(near_duplicates(hashes, thumbnails)) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((60, 45)),
        lambda image: image.resize((240, 180)),
        lambda image: image.point(lambda value: min(255, value + 20)),
        lambda image: image.crop((1, 1, 119, 89)),
    ],
    ids=["smaller", "larger", "brighter", "cropped by a pixel"],
)
def test_a_changed_copy_is_alike_and_other_scenes_are_not(change) -> None:  # type: ignore[no-untyped-def]
    images = [scene(seed) for seed in range(40)]
    assert len(near_duplicates(*_seen(images))) == 0
    assert near_duplicates(*_seen([*images, change(images[7])])).tolist() == [[7, 40]]


def test_empty_skies_with_other_noise_are_not_alike() -> None:
    skies = []
    for seed in range(12):
        noise = np.random.default_rng(seed).normal(0, 6, (90, 120))
        skies.append(Image.fromarray((150 + noise).clip(0, 255).astype(np.uint8)))
    assert len(near_duplicates(*_seen(skies))) == 0


def test_flat_pictures_of_one_color_are_alike_and_of_two_are_not() -> None:
    flat = [Image.new("RGB", (50, 50), (shade,) * 3) for shade in (0, 0, 255)]
    assert near_duplicates(*_seen(flat)).tolist() == [[0, 1]]


def test_groups_hang_together_and_have_everyone_once() -> None:
    assert groups_of(np.array([[0, 3], [3, 4], [1, 2]]), 6) == [[0, 3, 4], [1, 2], [5]]
    assert groups_of(np.zeros((0, 2), dtype=np.int64), 2) == [[0], [1]]
    assert groups_of(np.zeros((0, 2), dtype=np.int64), 0) == []
    assert near_duplicates(np.zeros(0, np.uint64), np.zeros((0, 256), np.uint8)).shape == (0, 2)


def test_candidates_grow_with_the_pictures_and_not_with_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    bits = module._bits

    def counting(values: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(values)
        return bits(values)

    monkeypatch.setattr(module, "_bits", counting)
    hashes, thumbnails, _ = _planted(20_000, 0)
    near_duplicates(hashes, thumbnails[:, :16])
    # Of 2e8 pairs; 68 looks for each picture, each of which finds a third of one at that number.
    assert compared < 0.04 * 20_000**2 / 2


@pytest.mark.slow
def test_a_hundred_thousand_pictures_take_seconds() -> None:
    hashes, thumbnails, pairs = _planted(100_000, 1000)
    start = time.process_time()
    found = set(map(tuple, near_duplicates(hashes, thumbnails).tolist()))
    assert pairs <= found and time.process_time() - start < 60
