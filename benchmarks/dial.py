"""One model for all budgets against one trained for each budget alone: average precision, with intervals.

    python benchmarks/dial.py --data bccd=BCCD --data sky=SKY --runs runs/dial

Each run of the plan (`dial.yaml`) is trained by the project's train command, once for each data set and
seed, and evaluated at its budgets by the project's evaluate. What is finished stays as it is and what was
stopped is resumed: the command can be given again, by several processes at once with other ``--only`` or
``--seeds``.

The table has two rows for each data set and budget. `alone`: the model for all budgets less the one trained
for that budget; `dense`: the model for all budgets, at that budget, less the one trained over all tokens.
Intervals are of 95 %, by a bootstrap over the pictures and the seeds that both sides have (`compare`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planned import Plan, evaluated, main, row

ANY, DENSE = "any", "only-1.0"


def table(plan: Plan, runs: Path) -> list[dict[str, Any]]:
    """The comparisons that there are runs for, all seeds that both sides have."""
    rows = []
    for name in plan["sets"]:
        for budget in plan["runs"][ANY]["budgets"]:
            for label, other, at in (("alone", f"only-{budget}", budget), ("dense", DENSE, 1.0)):
                if other not in plan["runs"]:
                    continue
                pairs = evaluated(runs / name, (other, at), (ANY, budget), plan["seeds"])
                if pairs:
                    rows.append({"run": ANY, **row(name, budget, label, pairs)})
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, table)
