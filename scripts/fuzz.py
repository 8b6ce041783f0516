"""Breaks small data sets, pictures and archives at random and reads them, as `make fuzz` does.

Ends with 1 and the seed where reading raises anything but `FocusDetrError`, or hangs;
`--seed N --rounds 1 --keep DIR` makes that data set again; `--picture N`, `--archive N` read that again.
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
from helpers.fuzzing_archives import archive_round
from helpers.fuzzing_pictures import picture_round

FILES_A_ROUND = 20


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
    parser.add_argument("--picture", type=int, default=None, help="only the picture of this seed")
    parser.add_argument("--archive", type=int, default=None, help="only the archive of this seed")
    options = parser.parse_args()
    if options.archive is not None:
        print(archive_round(options.archive) or "read or refused as it should be")
        return 0
    if options.picture is not None:
        print(picture_round(options.picture) or "read or refused as it should be")
        return 0
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
        for kind, read in (("picture", picture_round), ("archive", archive_round)):
            for each in range(number * FILES_A_ROUND, (number + 1) * FILES_A_ROUND):
                failure = read(each)
                if failure is not None:
                    failures += 1
                    print(f"{kind} {each}:\n{failure}", flush=True)
    files = rounds * FILES_A_ROUND
    print(
        f"from seed {seed}, {rounds} broken data sets, {files} pictures, as many archives: {failures} failed"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
