"""What options of the focus policy are worth: average precision with each less that without, with intervals.

    python benchmarks/policy_options.py --data bccd=BCCD --data sky=SKY --data potholes=POTHOLES

Each run of the plan (`policy_options.yaml`) goes on with the same model, which detects already, for the same
steps of the same pictures; how runs are kept, and several processes share them, as in `dial.py`. A row of the
table is a run less `plain`. Intervals are of 95 %, by a bootstrap over the pictures and the seeds that both
sides have (`compare`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planned import Plan, evaluated, main, row

PLAIN = "plain"


def table(plan: Plan, runs: Path) -> list[dict[str, Any]]:
    """The comparisons that there are runs for, all seeds that both sides have."""
    rows = []
    for name in plan["sets"]:
        for run in (run for run in plan["runs"] if run != PLAIN):
            for budget in plan["runs"][run]["budgets"]:
                pairs = evaluated(runs / name, (PLAIN, budget), (run, budget), plan["seeds"])
                if pairs:
                    rows.append({"run": run, **row(name, budget, PLAIN, pairs)})
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, table)
