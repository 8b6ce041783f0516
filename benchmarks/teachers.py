"""What a teacher is worth: a small model taught by a larger one against itself without, with intervals.

    python benchmarks/teachers.py --data bccd=BCCD --data sky=SKY --runs runs/teachers

Each run of the plan (`teachers.yaml`) is trained and evaluated as in `dial.py`, once for each data set and
seed, the teachers before those that they teach. What is finished stays and what was stopped is resumed: the
command can be given again.

A row of the table is a taught run less `plain`, at a budget of tokens. Intervals are of 95 %, by a bootstrap
over the pictures and the seeds that both sides have (`compare`).
"""

from __future__ import annotations

from pathlib import Path

from planned import Plan, main, merged


def with_teacher(plan: Plan, run: str, runs: Path, seed: int) -> Plan:
    """The plan, in which the run's recipe names the model that teaches it."""
    teacher = plan["runs"][run].get("taught_by")
    if teacher is None:
        return plan
    model = str(runs / f"{teacher}-seed{seed}" / "last")
    return merged(plan, {"runs": {run: {"recipe": {"teacher": {"model": model}}}}})


if __name__ == "__main__":
    main(__file__, __doc__, prepared=with_teacher)
