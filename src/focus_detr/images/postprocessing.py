"""A detector's answers -> objects: the best pairs of query and class, their boxes in pixels."""

# Shapes: B images, Q queries, k classes, N pairs of query and class, T objects.

from __future__ import annotations

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.images.suppression import without_duplicates

SCORINGS = ("sigmoid", "softmax")


def found_objects(
    logits: np.ndarray,
    boxes_cxcywh: np.ndarray,
    sizes: np.ndarray | None,
    *,
    threshold: float,
    top_k: int,
    scoring: str,
    nms_threshold: float | None,
) -> list[dict[str, np.ndarray]]:
    """Logits (B,Q,k) and boxes (B,Q,4) -> for each image `scores`, `labels`, `boxes` xyxy and `queries`.

    Args:
        sizes: (B,2) height and width in pixels; None for boxes in fractions of the image.
        threshold, top_k, scoring, nms_threshold: see `ArrayProcessor`.

    Raises:
        FocusDetrError: the sizes are not of as many images.
    """
    if sizes is None:
        sizes = np.ones((len(logits), 2))
    if sizes.shape != (len(logits), 2):
        raise FocusDetrError(
            f"target_sizes: one (height, width) for each of {len(logits)} images, not {tuple(sizes.shape)}."
        )
    found = []
    for of_image, boxes, (height, width) in zip(logits, boxes_cxcywh, sizes, strict=True):
        scores, labels, queries = _best(of_image, top_k, scoring)
        centre, extent = boxes[queries, :2], boxes[queries, 2:]
        corners = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1).clip(0, 1)
        pixels = corners * np.array([width, height, width, height], dtype=corners.dtype)
        # A score of zero is no detection at any threshold: queries that fill up an image's set have it.
        kept = (scores >= threshold) & (scores > 0) & (pixels[:, 2:] > pixels[:, :2]).all(axis=1)
        objects = {"scores": scores, "labels": labels, "boxes": pixels, "queries": queries}
        objects = {name: values[kept] for name, values in objects.items()}
        if nms_threshold is not None:
            best = without_duplicates(objects["boxes"], objects["labels"], nms_threshold)
            objects = {name: values[best] for name, values in objects.items()}
        found.append(objects)
    return found


def _best(logits: np.ndarray, top_k: int, scoring: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and queries (T,) of the ``top_k`` best answers of logits (Q,k), best first."""
    if scoring == "softmax":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
        labels = probabilities.argmax(axis=1)
        scores = probabilities[np.arange(len(labels)), labels]
        queries = _largest(scores, top_k)
        return scores[queries], labels[queries], queries
    scores = _sigmoid(logits.ravel())
    chosen = _largest(scores, top_k)
    return scores[chosen], chosen % logits.shape[1], chosen // logits.shape[1]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # Of the lowest logits the power is infinite, and the score zero, as it should be.
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the ``count`` largest of (N,) stand, the largest first, and of those alike the first."""
    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        candidates = np.flatnonzero(values >= least)
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
