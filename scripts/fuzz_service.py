"""Sends the service requests that are broken at random: `python scripts/fuzz_service.py --requests 5000`.

Ends with 1 and the seed where one is answered with 5xx or no JSON, or hangs, or where memory
goes on growing; `--seed N --requests 1` sends that one again.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import random
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.fuzzing_service import request_round
from helpers.services import live_service, small_predictor

_CLIENTS = 8
MOST_GROWTH = 60.0
"""Megabytes: the first half fills what a process fills once, the second adds little."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=None, help="the first of the seeds; by default random")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    seed = random.randrange(2**40) if options.seed is None else options.seed
    with TemporaryDirectory() as folder:
        failures, statuses, growth = fuzz(seed, options.requests, Path(folder))
    print(f"from seed {seed}, {options.requests} requests: {len(failures)} failures")
    print(", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(statuses.items())))
    print(f"memory grew by {growth:+.0f} MB in the second half")
    print("\n".join(failures[:20]))
    return 1 if failures or growth > MOST_GROWTH else 0


def fuzz(seed: int, requests: int, folder: Path) -> tuple[list[str], Counter[int], float]:
    """What should not have come, with its seed; statuses; megabytes that the second half took."""
    held: list[int] = []
    numbers = range(seed, seed + requests)
    answers: list[tuple[int, str | None]] = []
    limits = {"max_megabytes": 2, "max_megapixels": 4, "body_timeout": 2, "url_timeout": 1, "max_jobs": 50}
    with live_service({"small": small_predictor()}, jobs=folder, allow_urls=("*",), **limits) as live:
        for half in (numbers[: requests // 2], numbers[requests // 2 :]):
            with ThreadPoolExecutor(_CLIENTS) as pool, warnings.catch_warnings(action="ignore"):
                answers += pool.map(lambda number: request_round(live.port, number), half)
            held.append(_memory())
        failures = [
            f"seed {n}: {problem}" for n, (_, problem) in zip(numbers, answers, strict=True) if problem
        ]
        if not live.idle():
            failures.append("requests or their memory are left in the service")
    return failures, Counter(status for status, _ in answers), (held[1] - held[0]) / 1e6


def _memory() -> int:
    """Bytes in use, without what the allocator keeps of threads that have ended, as far as it can be told."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    sys.exit(main())
