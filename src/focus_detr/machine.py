"""The machine that a figure belongs to."""

from __future__ import annotations

import os
import platform
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
