"""What a teacher is worth: a small model taught by a larger one against itself without, with intervals.

    python benchmarks/teachers.py --data bccd=BCCD --data sky=SKY --runs runs/teachers

Each run of the plan (`teachers.yaml`) is trained and evaluated as in `dial.py`, once for each data set and
seed, the teachers before those that they teach. What is finished stays and what was stopped is resumed: the
command can be given again.

A row of the table is a taught run less `plain`, at a budget of tokens. Intervals are of 95 %, by a bootstrap
over the pictures and the seeds that both sides have (`compare`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import common
import yaml
from dial import evaluated, finish, merged, row

from focus_detr.benchmarking import describe_environment
from focus_detr.benchmarking.report import write_csv

PLAIN = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--data", action="append", default=[], metavar="SET=PATH", help="of the plan's sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/teachers"), help="where runs are kept")
    parser.add_argument("--seeds", nargs="*", type=int, help="train these seeds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "teachers.csv")
    options = parser.parse_args()
    plan = yaml.safe_load(options.plan.read_text())
    data = {name: Path(path) for name, _, path in (each.partition("=") for each in options.data)}
    for seed in plan["seeds"] if options.seeds is None else options.seeds:
        for name in data:
            for run in plan["runs"]:
                taught = with_teacher(plan, run, options.runs / name, seed)
                finish(taught, name, data[name], run, seed, options)
                write_table(plan, options)
    write_table(plan, options)


def with_teacher(plan: Mapping[str, Any], run: str, runs: Path, seed: int) -> dict[str, Any]:
    """The plan, in which the run's recipe names the model that teaches it."""
    teacher = plan["runs"][run].get("taught_by")
    if teacher is None:
        return dict(plan)
    model = str(runs / f"{teacher}-seed{seed}" / "last")
    return merged(plan, {"runs": {run: {"recipe": {"teacher": {"model": model}}}}})


def write_table(plan: Mapping[str, Any], options: argparse.Namespace) -> None:
    """The comparisons that there are runs for, all seeds that both sides have."""
    rows = []
    for name in plan["sets"]:
        runs = options.runs / name
        for run in (run for run in plan["runs"] if "taught_by" in plan["runs"][run]):
            for budget in plan["runs"][run]["budgets"]:
                pairs = evaluated(runs, (PLAIN, budget), (run, budget), plan["seeds"])
                if pairs:
                    rows.append(row(name, budget, run, pairs))
    if rows:
        write_csv(options.output, rows, describe_environment())


if __name__ == "__main__":
    main()
