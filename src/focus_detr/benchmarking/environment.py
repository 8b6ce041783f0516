"""Environment: the machine and the software that a figure belongs to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.machine import eight_bit_instructions, processor_name, usable_cores

_PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "triton")


def describe_environment(device: str = "cpu") -> dict[str, Any]:
    """What figures depend on, and would otherwise be guessed later."""
    import torch

    from focus_detr import __version__
    from focus_detr.ops import describe_backends

    found: dict[str, Any] = {
        "focus-detr": __version__,
        "cpu": processor_name(),
        "int8": " ".join(eight_bit_instructions()) or "no instructions of its own",
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "load": _load(),
        "device": device,
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }
    found["msda"] = [
        {
            "name": each.name,
            "active": each.active,
            "available": each.available,
            "reason": _nameless(each.reason),
        }
        for each in describe_backends(device)
    ]
    return found


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Inside the block torch computes with ``threads`` threads, and other runtimes on as many cores.

    None changes nothing.
    """
    if threads is None:
        yield
        return
    if threads < 1:
        raise FocusDetrError(f"threads={threads}: must be at least 1")
    if threads > usable_cores():
        raise FocusDetrError(
            f"threads={threads}: this process may use {usable_cores()} core(s); more threads would only wait"
        )
    import torch

    before = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(threads)
    if cores is not None:
        # The last ones: what else a machine runs tends to start on the first.
        os.sched_setaffinity(0, sorted(cores)[-threads:])
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def flat(environment: dict[str, Any]) -> dict[str, Any]:
    """The environment as columns of a table: of the back ends, the active one."""
    active = next((each["name"] for each in environment["msda"] if each["active"]), None)
    return {**environment, "msda": active}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _nameless(reason: str) -> str:
    # A report is passed on: it should not tell where somebody's home is.
    return reason.replace(str(Path.home()), "~")
