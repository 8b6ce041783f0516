"""A detector and a data set small enough to train in a test; as a script, a run in a process of its own."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

CLASSES = ["cat", "dog"]
RECIPE = {
    "name": "tiny",
    "epochs": 3,
    "batch_size": 4,
    "lr_drops": [2],
    "ema_decay": 0.9,
    "ema_warmup": 0.5,
    "learning_rate": 0.01,
    "shortest_edge": 32,
    "longest_edge": 32,
    "augmentation": "small-data",
    "workers": 0,
    "log_steps": 1,
    "checkpoint_steps": 2,
    "threads": 1,
}


class TinyConfig(PreTrainedConfig):
    model_type = "tiny-detector"

    def __init__(self, width: int = 8, noise: float = 0.1, training_recipe: dict | None = None, **kwargs):
        self.width, self.noise, self.training_recipe = width, noise, training_recipe
        super().__init__(**kwargs)


@dataclass
class TinyOutput(ModelOutput):
    loss: Tensor | None = None
    loss_dict: dict | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None


class TinyDetector(PreTrainedModel):
    """One query an image. Like the real one it draws random numbers in training, from torch's own stream."""

    config_class = TinyConfig
    main_input_name = "pixel_values"

    def __init__(self, config: TinyConfig):
        super().__init__(config)
        self.backbone = nn.Sequential(nn.Conv2d(3, config.width, 3, stride=4), nn.ReLU())
        self.norm = nn.LayerNorm(config.width)
        self.class_head = nn.Linear(config.width, config.num_labels)
        self.box_head = nn.Linear(config.width, 4)
        self.label_embedding = nn.Embedding(config.num_labels, config.width)
        self.post_init()

    def forward(self, pixel_values, pixel_mask, labels=None):
        # Padding must not matter: only positions whose window lies in the image.
        heights, widths = (pixel_mask[:, :, 0].sum(1) - 3) // 4 + 1, (pixel_mask[:, 0].sum(1) - 3) // 4 + 1
        maps = zip(self.backbone(pixel_values), heights, widths, strict=True)
        features = self.norm(torch.stack([each[:, :h, :w].mean(dim=(1, 2)) for each, h, w in maps]) * 10)
        if self.training and self.config.noise:
            features = features + self.config.noise * torch.randn_like(features)
        logits, boxes = self.class_head(features), self.box_head(features).sigmoid()
        if labels is None:
            return TinyOutput(logits=logits[:, None], pred_boxes=boxes[:, None])
        there = torch.stack(
            [torch.bincount(each["class_labels"], minlength=logits.shape[1]).clamp(max=1) for each in labels]
        )
        centre = torch.stack([each["boxes"].sum(dim=0) / max(1, len(each["boxes"])) for each in labels])
        embedded = (self.label_embedding.weight[None] * there[..., None]).sum(dim=1)
        parts = {
            "loss_class": nn.functional.binary_cross_entropy_with_logits(logits, there.float()),
            "loss_bbox": 5 * nn.functional.l1_loss(boxes, centre),
            "loss_dn": 0.1 * nn.functional.mse_loss(embedded, features),
        }
        return TinyOutput(loss=sum(parts.values()), loss_dict=parts, logits=logits, pred_boxes=boxes)


def tiny_detector(noise: float = 0.1, classes: list[str] = CLASSES, seed: int = 0) -> TinyDetector:
    torch.manual_seed(seed)
    return TinyDetector(TinyConfig(noise=noise, id2label=dict(enumerate(classes)), label2id=None))


def small_focus_detr(
    denoising_queries: int = 0, classes: list[str] = CLASSES, **fields: Any
) -> PreTrainedModel:
    """The real thing, as small as it gets."""
    from transformers import ResNetConfig

    from focus_detr.models import FocusDetrForObjectDetection
    from focus_detr.models.configuration import FocusDetrConfig

    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    torch.manual_seed(0)
    settings = {
        "d_model": 16,
        "attention_heads": 2,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "policy_options": {"cascade": [1.0, 0.5], "num_fine_tokens": 4},
        "num_queries": 6,
        "host_options": {"denoising_queries": denoising_queries},
        "id2label": dict(enumerate(classes)),
        "label2id": {name: label for label, name in enumerate(classes)},
    }
    return FocusDetrForObjectDetection(FocusDetrConfig(backbone_config=backbone, **settings | fields))


def write_dataset(folder: Path, images: int = 10) -> Path:
    """A COCO data set of colored rectangles, in splits train and val."""
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("val", 3)):
        (folder / split).mkdir(parents=True)
        described, annotations = [], []
        for image_id in range(count):
            pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)
            for _ in range(image_id % 3):
                left, top = rng.integers(0, 20, 2).tolist()
                label = int(rng.integers(2))
                pixels[top : top + 10, left : left + 10, label] = 250
                box = {"bbox": [left, top, 10, 10], "area": 100, "iscrowd": 0, "category_id": label + 1}
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **box})
            Image.fromarray(pixels).save(folder / split / f"{image_id}.png")
            described.append({"id": image_id, "file_name": f"{image_id}.png", "width": 32, "height": 32})
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": described, "annotations": annotations, "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def losses(output: Path) -> dict[int, str]:
    """Step -> all its logged losses, as text: equal text is equal bits."""
    import csv

    with (output / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    return {int(row["step"]): " ".join(row[name] for name in row if name.startswith("loss")) for row in rows}


def _collate_in_double() -> None:
    from focus_detr.data import Collator

    collate = Collator.__call__

    def in_double(self, samples):
        batch = collate(self, samples)
        return {**batch, "pixel_values": batch["pixel_values"].double()}

    Collator.__call__ = in_double


def _hold(most: int) -> None:
    forward = TinyDetector.forward

    def limited(self, pixel_values, *args, **kwargs):
        if len(pixel_values) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, pixel_values, *args, **kwargs)

    TinyDetector.forward = limited


def main(data: str, output: str, options: str) -> None:
    """Train; ``die_at`` kills this process for good at that step (``die_alone``: the one of that rank),
    ``die_saving`` while it is being saved; ``holds``: images that each process's memory holds at once."""
    from focus_detr.training import saving, train
    from focus_detr.training.loop import TrainingLoop

    settings = json.loads(options)
    die_alone = settings.pop("die_alone", None)
    if settings.pop("clock", False):  # a second passes whenever it is looked at
        from focus_detr.training import fitting

        fitting.perf_counter = itertools.count().__next__
    environment = settings.pop("environment", {})
    os.environ.update(environment)
    in_shards = "ACCELERATE_USE_FSDP" in os.environ
    die_at, die_saving = settings.pop("die_at", None), settings.pop("die_saving", None)
    die_of, tell = settings.pop("die_of", signal.SIGKILL), settings.pop("evaluator", True)
    step, save_model = TrainingLoop._step, saving.save_model

    def dying_step(self, *args):
        if self.state.step == die_at and die_alone in (None, self.accelerator.process_index):
            os.kill(os.getpid(), die_of)
        assert all(isinstance(each, DTensor) == in_shards for each in self.model.trained.parameters())
        return step(self, *args)

    def dying_save(model, image_processor, folder):
        save_model(model, image_processor, folder)
        if folder.name == f".checkpoint-{die_saving}.writing":
            os.kill(os.getpid(), signal.SIGKILL)

    TrainingLoop._step, saving.save_model = dying_step, dying_save
    if (holds := settings.pop("holds", None)) is not None:
        _hold(holds[int(os.environ["RANK"])])
    double = settings.pop("double", False)
    if double:
        _collate_in_double()
    denoising = settings.pop("focus_detr", None)
    # The weights of the first process count.
    model = settings.pop("model", None) or tiny_detector(
        noise=settings.pop("noise", 0.1), seed=int(os.environ.get("RANK", 0))
    )
    if denoising is not None:
        model = small_focus_detr(denoising, **settings.pop("fields", {}))
    train(
        data,
        model=model.double() if double else model,
        recipe=RECIPE,
        output=output,
        device=settings.pop("device", "cpu"),
        evaluator=(lambda model: {"AP": float(next(model.parameters()).sum())}) if tell else None,
        **settings,
    )


# Processes are forked from one that has the slow imports behind it.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["helpers.tiny_training", "focus_detr.training.loop", "focus_detr.evaluation"]
)


def start(data: Path, output: Path, **options):
    """`main` in a process of its own, started."""
    process = processes.Process(target=main, args=(str(data), str(output), json.dumps(options)))
    process.start()
    return process


def start_many(
    count: int, data: Path, output: Path, environment: dict[str, str] | None = None, **options
) -> list:
    """Processes that train together, started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)} | (environment or {})
    ranks = [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [start(data, output, environment=each, **options) for each in ranks]


def start_two(data: Path, output: Path, environment: dict[str, str] | None = None, **options) -> list:
    return start_many(2, data, output, environment, **options)


def finish(*started, killed: bool = False, code: int = 0) -> None:
    """Wait for processes, which must end well, with an exit code, or by being killed."""
    for process in started:
        process.join(timeout=300)
        assert process.exitcode == (-signal.SIGKILL if killed else code)


if __name__ == "__main__":
    main(*sys.argv[1:])
