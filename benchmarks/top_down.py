"""What it is worth that the score of a level reaches the next finer one: objects among the tokens kept.

    python benchmarks/top_down.py --data bccd=BCCD --data sky=SKY --data potholes=POTHOLES

The features of a detector stay as they are; selectors are trained on them from nothing, by the paper's loss:
in each of the forms that the score can act in (`policy_options.modulates`), and without it (`none`). Measured
on the test split: the share of objects that one of the kept tokens lies in, by the share of tokens kept. Each
row is a form less `none`, the same seeds and pictures, with its interval of 95 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import parser, write
from torch import Tensor
from tqdm import tqdm

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, Predictor
from focus_detr.data import DetectionDataset, load_dataset
from focus_detr.evaluation.comparison import paired_interval, student_draws
from focus_detr.evaluation.tokens import size_groups, tokens_inside
from focus_detr.losses.foreground import foreground_loss, foreground_targets
from focus_detr.models.policies.scoring import MODULATIONS, ForegroundSelector
from focus_detr.structures.boxes import xyxy_to_cxcywh
from focus_detr.structures.geometry import Geometry, flatten_levels
from focus_detr.structures.tokens import Tokens

FORMS: Mapping[str, Mapping[str, Any]] = {
    "none": {"top_down": False},
    **{form: {"top_down": True, "modulates": form} for form in MODULATIONS},
}
KEPT = (0.02, 0.05, 0.1, 0.2, 0.3)
DRAWS = 1000


@dataclass
class Picture:
    """What selectors see of a picture, and what they should say.

    Attributes:
        features: (N,C), of one image.
        targets: (N,) bool.
        inside: (N,T) which tokens have their centre in which objects.
        sizes: (sizes,T) which objects are of which size (`SIZES`).
    """

    features: Tensor
    geometry: Geometry
    targets: Tensor
    inside: Tensor
    sizes: np.ndarray


def run(options: argparse.Namespace) -> None:
    predictor = Predictor.from_pretrained(options.model, device="cpu")
    rows = []
    for name, _, path in (each.partition("=") for each in options.data):
        train, test = (pictures(predictor, load_dataset(Path(path), split)) for split in ("train", "test"))
        found = {
            form: [
                recalls(trained(predictor, form, train, seed, options), test) for seed in range(options.seeds)
            ]
            for form in FORMS
        }
        for form in list(FORMS)[1:]:
            rows += compared(name, form, found[form], found["none"])
    write("top_down", rows, options.output)


@torch.no_grad()
def pictures(predictor: Predictor, data: DetectionDataset) -> list[Picture]:
    model: Any = predictor.model
    made = []
    for index in tqdm(range(len(data)), desc="features", leave=False):
        sample = data[index]
        pixels, mask = predictor.prepare([sample.image])
        levels, geometry = model.extract_levels(pixels, mask)
        content = flatten_levels(levels)
        kept: list[Tensor] = []

        def scorer(features: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(features[0].clone())
            return features[..., 0]

        model.proposals.score(scorer, Tokens(content, model.encode_positions(geometry, content), geometry))
        width, height = sample.image.size
        box = torch.tensor(sample.instances.boxes_xyxy, dtype=torch.float32).reshape(-1, 4)
        boxes = xyxy_to_cxcywh(box / torch.tensor([width, height, width, height]))
        classes = torch.from_numpy(sample.instances.labels)
        label = {"class_labels": classes, "boxes": boxes, "size": torch.tensor(pixels.shape[-2:])}
        ranges = model.encoder.foreground_ranges
        made.append(
            Picture(
                kept[0],
                geometry,
                foreground_targets(geometry, model.strides, ranges, [label])[0],
                tokens_inside(geometry.shapes, geometry.sizes[0], boxes),
                size_groups(boxes, torch.tensor(sample.image.size[::-1])),
            )
        )
    return made


def trained(
    predictor: Predictor, form: str, data: Sequence[Picture], seed: int, options: argparse.Namespace
) -> ForegroundSelector:
    """A selector of that form; the same pictures in the same order for all forms of a seed."""
    config: FocusDetrConfig = predictor.model.config  # type: ignore[union-attr]
    changed = FocusDetrConfig.from_dict(
        {**config.to_dict(), "policy_options": {**config.policy_options, **FORMS[form]}}
    )
    torch.manual_seed(seed)
    selector: ForegroundSelector = FocusDetrForObjectDetection(changed).encoder.selector.train()
    optimizer = torch.optim.AdamW(selector.parameters(), lr=options.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    order = np.random.default_rng(seed)
    for _ in tqdm(range(options.steps), desc=f"{form}, seed {seed}", leave=False):
        # Of one shape, as sizes may differ: the first one's.
        first = data[order.integers(len(data))]
        alike = [each for each in data if each.geometry.shapes == first.geometry.shapes]
        batch = [alike[place] for place in order.integers(len(alike), size=options.batch)]
        geometry = Geometry.unpadded(first.geometry.shapes, len(batch), torch.device("cpu"))
        scores = selector(torch.stack([each.features for each in batch]), geometry)
        targets = torch.stack([each.targets for each in batch])
        loss = foreground_loss(scores, targets, None, config.focal_alpha, config.focal_gamma)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(selector.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return selector.eval()


@torch.no_grad()
def recalls(selector: ForegroundSelector, data: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
    """Objects with a kept token (pictures,shares,sizes), and objects (pictures,sizes)."""
    hits, objects = [], []
    for each in data:
        ranked = selector(each.features[None], each.geometry)[0].argsort(descending=True, stable=True)
        hit = [
            each.inside[ranked[: -int(-share * len(ranked) // 1)]].any(0).numpy() for share in KEPT
        ]  # (shares,T)
        hits.append(np.stack(hit).astype(float) @ each.sizes.T)
        objects.append(each.sizes.sum(1))
    return np.stack(hits), np.stack(objects)


def compared(
    name: str,
    form: str,
    ours: Sequence[tuple[np.ndarray, np.ndarray]],
    plain: Sequence[tuple[np.ndarray, np.ndarray]],
) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    count = len(ours[0][1])
    weights = generator.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    weights = np.concatenate([np.ones((1, count)), weights])  # (1+R,P), the first the pictures as they are

    def drawn(runs: Sequence[tuple[np.ndarray, np.ndarray]], share: int, size: int) -> np.ndarray:
        return np.stack([weights @ hits[:, share, size] / (weights @ each[:, size]) for hits, each in runs])

    student = student_draws(len(ours), DRAWS, generator)
    objects = ours[0][1].sum(0)  # (sizes,)
    rows: list[dict[str, Any]] = []
    for size, label in ((0, "all"), (1, "small")):
        for place, share in enumerate(KEPT if objects[size] else ()):
            a, b = drawn(plain, place, size), drawn(ours, place, size)  # (n,1+R)
            low, high = paired_interval(b - a, student)
            values = {"recall": b[:, 0].mean(), "recall_none": a[:, 0].mean()}
            values |= {"difference": (b - a)[:, 0].mean(), "low": low, "high": high}
            row = {"set": name, "form": form, "objects": label, "count": int(objects[size]), "kept": share}
            rows.append(row | {key: round(float(value), 4) for key, value in values.items()})
    return rows


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1)
    arguments.add_argument("--data", action="append", required=True, metavar="NAME=PATH")
    arguments.add_argument("--model", default="everyday", help="a two-stage model with a foreground selector")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=300)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    run(given)
