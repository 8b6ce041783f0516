"""The machine and its software: what is there, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from focus_detr.benchmarking.environment import describe_environment
from focus_detr.data.records import Problem
from focus_detr.machine import usable_cores

_ROOM = 2 * 2**30
"""Bytes: a download of weights, or a run's checkpoints, need as much."""


def examine_environment(device: str | None = None) -> tuple[dict[str, Any], list[Problem]]:
    """What figures depend on here (see `describe_environment`), and what could be better.

    Args:
        device: a torch device; the best one there is when not given.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = describe_environment(device)
    problems = [
        *_requirements(),
        *_accelerator(torch.cuda.is_available(), torch.version.cuda),
        *_back_ends(found["msda"], device),
        *_threads(torch.get_num_threads(), usable_cores()),
        *_other_work(torch.get_num_threads(), usable_cores(), _load()),
        *_room(),
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    return found, sorted(problems, key=lambda each: order[each.severity])


def _requirements() -> Iterator[Problem]:
    """Packages that are missing or older than what is tested; of extras, those of which nothing is there."""
    from packaging.requirements import Requirement

    try:
        stated = importlib.metadata.requires("focus-detr") or []
    except importlib.metadata.PackageNotFoundError:
        yield Problem(
            "not-installed",
            "warning",
            "focus-detr",
            "runs from a folder of sources: what it needs is not known",
            "pip install -e . in that folder",
        )
        return
    extras: dict[str, list[str]] = {}
    for requirement in map(Requirement, stated):
        extra = (
            match[1] if (match := re.search(r'extra == "([\w-]+)"', str(requirement.marker or ""))) else ""
        )
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        version = _version(requirement.name)
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            yield Problem(
                "version",
                "warning" if extra else "error",
                requirement.name,
                f"is {version}, and {requirement.specifier} is what this version works with",
                f'pip install "{requirement.name}{requirement.specifier}"',
            )
        elif version is None and not extra:
            yield Problem(
                "missing-package",
                "error",
                requirement.name,
                "is not installed",
                f'pip install "{requirement.name}{requirement.specifier}"',
            )
        elif version is None and extra not in ("test", "dev"):
            extras.setdefault(extra, []).append(requirement.name)
    for extra, names in extras.items():
        names = [name for name in names if name != "focus-detr"]
        if names:
            yield Problem(
                "extra",
                "note",
                extra,
                f"optional, not installed: {', '.join(names)}",
                f'pip install "focus-detr[{extra}]"',
            )


def _accelerator(available: bool, built_for: str | None) -> Iterator[Problem]:
    """A GPU that torch does not use."""
    if available or shutil.which("nvidia-smi") is None:
        return
    if built_for is None:
        yield Problem(
            "gpu",
            "warning",
            "torch",
            "there is an NVIDIA driver, but this torch computes on CPUs alone",
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130",
        )
    else:
        yield Problem(
            "gpu",
            "warning",
            "torch",
            f"there is an NVIDIA driver, but torch (CUDA {built_for}) finds no GPU",
            "nvidia-smi says whether the driver works and is new enough; CUDA_VISIBLE_DEVICES may hide it",
        )


def _back_ends(back_ends: list[dict[str, Any]], device: str) -> Iterator[Problem]:
    """The fast form of deformable attention, where it cannot be had."""
    name = "triton" if device.startswith("cuda") else "cpu"
    wanted = next(each for each in back_ends if each["name"] == name)
    if device.startswith(("cuda", "cpu")) and not wanted["available"]:
        what, _, fix = wanted["reason"].partition("; ")
        yield Problem(
            "back-end",
            "warning",
            f"deformable attention ({name})",
            f"{what}: models compute several times slower without",
            fix or "pip install triton",
        )


def _threads(threads: int, cores: int) -> Iterator[Problem]:
    if threads > cores:
        yield Problem(
            "threads",
            "warning",
            "torch",
            f"{threads} threads on {cores} cores, which then wait for one another",
            f"export OMP_NUM_THREADS={cores}",
        )
    elif threads == 1 < cores:
        yield Problem(
            "threads",
            "note",
            "torch",
            f"one thread, with {cores} cores there",
            f"export OMP_NUM_THREADS={cores}",
        )


def _other_work(threads: int, cores: int, load: float) -> Iterator[Problem]:
    if threads > 1 and load > cores and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        yield Problem(
            "busy",
            "warning",
            "torch",
            f"a load of {load:.1f} on {cores} cores: torch's threads keep their cores while they wait for "
            "one that has none, and take many times as long",
            "export OMP_WAIT_POLICY=passive",
        )


def _load() -> float:
    """Of the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _room() -> Iterator[Problem]:
    """Places that downloads go to."""
    from huggingface_hub.constants import HF_HOME

    place = Path(HF_HOME)
    there = next((folder for folder in (place, *place.parents) if folder.is_dir()), Path.cwd())
    if not os.access(there, os.W_OK):
        yield Problem(
            "cache",
            "warning",
            _nameless(place),
            "cannot be written to: no model can be downloaded",
            "export HF_HOME=FOLDER, with a folder that can",
        )
    elif (free := shutil.disk_usage(there).free) < _ROOM:
        yield Problem(
            "disk",
            "warning",
            _nameless(place),
            f"{free / 2**30:.1f} GB are free for downloads",
            "make room, or export HF_HOME=FOLDER on another disk",
        )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nameless(place: Path) -> str:
    return str(place).replace(str(Path.home()), "~")
