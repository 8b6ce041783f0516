"""The machine that a figure belongs to, and what of it this process may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_EIGHT_BITS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def processor_name() -> str:
    """The processor, with the vector instructions that decide its speed."""
    facts = _facts()
    if not facts:
        return platform.processor() or platform.machine()
    flags = set(facts.get("flags", "").split())
    known = [each for each in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if each in flags]
    return " ".join([facts.get("model name", platform.machine()), *known])


def eight_bit_instructions() -> list[str]:
    """What of this processor multiplies 8-bit numbers, as Linux names it; empty where nothing does, or where
    it does not say. Without any, INT8 is no faster at matrix products than float32."""
    flags = _facts().get("flags", _facts().get("Features", "")).split()  # of x86, of ARM
    return [each for each in _EIGHT_BITS if each in flags]


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _facts() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return {}
    pairs = reversed([line.split(":", 1) for line in lines if ":" in line])
    return {key.strip(): value.strip() for key, value in pairs}


def free_memory() -> int:
    """Bytes of memory that can still be had: of the machine's, and within the limits of control groups, which
    containers have."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_left_in_groups()]))


# Limit, use, and the key of memory.stat that says how much of the use is files that need not be kept.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


def _left_in_groups(
    process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    try:
        lines = process.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        group = top / path.lstrip("/")
        # In a container its own group is the top, whatever the path says. Groups above have limits, too.
        for folder in (group, *group.parents):
            left = _left_in(folder, *(_VERSION_1 if controllers else _VERSION_2))
            if left is not None:
                yield left
            if folder == top:
                break


def _left_in(folder: Path, limit: str, used: str, files: str) -> int | None:
    try:
        most = int((folder / limit).read_text())  # "max" where there is none
        now = int((folder / used).read_text())
    except (OSError, ValueError):
        return None
    try:
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        facts = {}
    return most - now + int(facts.get(files, 0))
