"""`focus-detr predict` with a stand-in for the model, which can be made to stop it."""

import csv
import json

import torch
from typer.testing import CliRunner

from focus_detr.cli import app


class TwoCellsAndADot:
    """Finds two cells and one dot in every image, with probabilities of 0.9, 0.7 and 0.6."""

    def infer(self, pixel_values, pixel_mask):
        probabilities = torch.tensor([[0.9, 0.01], [0.7, 0.01], [0.01, 0.6]])
        boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.5, 0.5, 0.1, 0.1]])
        count = len(pixel_values)
        return probabilities.logit().expand(count, 3, 2), boxes.expand(count, 3, 4)


def predict(*arguments):
    return CliRunner().invoke(app, ["predict", "any", *map(str, arguments)], catch_exceptions=False)


def stop_at(call, action, monkeypatch):
    """Do `action` when the stand-in is asked for the `call`-th time."""
    calls, infer = iter(range(1, 100)), TwoCellsAndADot.infer

    def interrupted(self, *batch):
        if next(calls) == call:
            action()
        return infer(self, *batch)

    monkeypatch.setattr(TwoCellsAndADot, "infer", interrupted)


def ctrl_c():
    raise KeyboardInterrupt


def kept_files(out):
    """Images that each result file of an interrupted run holds, in full."""
    coco = {entry["file_name"] for entry in json.loads((out / "detections.coco.json").read_text())}
    rows = {row["path"] for row in csv.DictReader((out / "detections.csv").open())}
    lines = {json.loads(line)["path"] for line in (out / "detections.jsonl").read_text().splitlines()}
    assert coco == rows == lines
    assert not list(out.glob(".*"))
    return len(coco), len(list(out.glob("*.jpg")))
