"""Pictures that look alike among many: candidates by parts of their hashes, then compared by thumbnails."""

# Shapes: P pictures, U different hashes, S pixels of a thumbnail, E pairs.

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

NEAREST = 7
"""Bits of 64 that the hashes of two pictures may differ in; strangers differ in about 32."""
_BANDS, _BAND_BITS = 4, 16
_MOST_PAIRS = 1 << 20  # looked at together
_CORRELATION = 0.97
_STEP = 48  # of 255: how far brightness, and any place of two thumbnails of one brightness, may be apart


def near_duplicates(hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Pairs (E,2) of positions of pictures that look alike, ascending; of many alike ones, not every pair but
    enough that they hang together.

    Hashes that differ in at most seven bits agree in one of four parts of 16 bits, but for one bit at most:
    only pictures that share such a part, or would with one bit flipped, are compared. That takes about P
    steps, not P squared. Thumbnails then decide: of pictures with little in them (a clear sky) the hash says
    little.

    Args:
        hashes: (P,) uint64; thumbnails: (P,S) uint8.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    same = np.stack([first[inverse.reshape(-1)], np.arange(len(hashes))], 1)
    pairs = [same[same[:, 0] != same[:, 1]]]
    pairs += [first[near] for near in _near_hashes(unique)]
    every = np.sort(np.concatenate(pairs), axis=1)
    every = np.unique(every, axis=0) if len(every) else every
    kept = [chunk[_look_alike(thumbnails, chunk)] for chunk in _chunks(every)]
    return np.concatenate(kept) if kept else np.zeros((0, 2), dtype=np.int64)


def groups_of(pairs: np.ndarray, count: int) -> list[list[int]]:
    """Positions that hang together by pairs (E,2), each of ``count`` in one group, ascending."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, group = connected_components(links, directed=False)
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    return sorted(part.tolist() for part in np.split(order, bounds)) if count else []


def _near_hashes(unique: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs (E,2) of positions in U different hashes that are at most `NEAREST` bits apart."""
    flips = np.concatenate([[0], 1 << np.arange(_BAND_BITS)]).astype(np.uint64)
    for band in range(_BANDS):
        keys = (unique >> np.uint64(band * _BAND_BITS)) & np.uint64((1 << _BAND_BITS) - 1)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for flip in flips:
            wanted = keys ^ flip
            begin = np.searchsorted(ordered, wanted, "left")
            counts = np.searchsorted(ordered, wanted, "right") - begin
            for rows in _batches(counts):
                own = np.repeat(rows, counts[rows])
                within = np.arange(len(own)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
                other = order[np.repeat(begin[rows], counts[rows]) + within]
                ahead = own < other
                own, other = own[ahead], other[ahead]
                near = _bits(unique[own] ^ unique[other]) <= NEAREST
                yield np.stack([own[near], other[near]], 1)


def _batches(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Positions in ``counts`` in parts whose sums stay bounded."""
    part = np.cumsum(counts) // _MOST_PAIRS
    yield from np.split(np.arange(len(counts)), np.flatnonzero(np.diff(part)) + 1)


def _chunks(pairs: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(pairs), 1 << 16):
        yield pairs[start : start + (1 << 16)]


def _bits(values: np.ndarray) -> np.ndarray:
    """How many bits of each uint64 (E,) are set."""
    parts = values.view(np.uint16).reshape(-1, 4)
    return _SET[parts].sum(1)


_SET = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


def _look_alike(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(E,) bool: the thumbnails of a pair are one another's but for some brightness and noise."""
    a, b = (thumbnails[pairs[:, side]].astype(np.float32) for side in (0, 1))
    mean_a, mean_b = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    a, b = a - mean_a, b - mean_b
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Of two pictures in one flat color, nothing correlates, and they are alike.
    alike = (norms < 1e-3) | ((a * b).sum(1) >= _CORRELATION * norms)
    return alike & (np.abs(a - b).max(1) <= _STEP) & (np.abs(mean_a - mean_b)[:, 0] <= _STEP)
