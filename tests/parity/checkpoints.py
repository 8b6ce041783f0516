"""Checkpoints in the originals' layouts, with the fixtures' weights."""

import json
from pathlib import Path

import torch

from parity_weights import make

DATA = Path(__file__).parents[1] / "data" / "parity"


def checkpoint(name, folder):
    layout = json.loads((DATA / f"{name}.layout.json").read_text())
    state = {key: torch.from_numpy(make(key, shape, kind)) for key, (shape, kind) in layout.items()}
    path = folder / f"{name}.pth"
    torch.save({"model": state}, path)
    return path
