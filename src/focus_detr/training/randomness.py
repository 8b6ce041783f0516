"""What a run changes of the process around it, it puts back: random numbers and threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def own_surroundings(threads: int | None, use_cpu: bool) -> Iterator[None]:
    """Within it, seeds and the number of threads may be set; afterwards both are as they were."""
    count, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    devices = [] if use_cpu or not torch.cuda.is_available() else [torch.cuda.current_device()]
    try:
        with torch.random.fork_rng(devices):
            if threads:
                torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(count)
        random.setstate(python)
        np.random.set_state(numpy)


class RandomNumbers:
    """The state of all generators a step may draw from, as a part of a checkpoint."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        name, keys, *rest = np.random.get_state(legacy=True)
        state: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
            "cpu": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
        random.setstate(state["python"])
        torch.set_rng_state(state["cpu"].cpu())
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)
