"""Breaks small data sets at random and reads them, as long as asked: `python scripts/fuzz.py --minutes 30`.

Ends with 1 and the seed where reading raises anything but `FocusDetrError`, or hangs;
`--seed N --rounds 1 --keep DIR` makes that data set again.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.fuzzing import fuzz, fuzz_round


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=None, help="end after so many, whatever the minutes")
    parser.add_argument(
        "--seed", type=int, default=None, help="the first of the rounds' seeds; by default random"
    )
    parser.add_argument("--keep", type=Path, default=None, help="an empty folder for the data set of --seed")
    options = parser.parse_args()
    seed = random.randrange(2**40) if options.seed is None else options.seed
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        print(fuzz_round(options.keep, seed) or "read or refused as it should be")
        return 0
    end = time.monotonic() + 60 * options.minutes
    seeds = itertools.count(seed) if options.rounds is None else iter(range(seed, seed + options.rounds))
    rounds = failures = 0
    for number, failure in fuzz(seeds, lambda: time.monotonic() < end):
        rounds += 1
        if failure is not None:
            failures += 1
            print(f"seed {number}:\n{failure}", flush=True)
    print(f"{failures} of {rounds} broken data sets, from seed {seed}, were neither read nor refused")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
