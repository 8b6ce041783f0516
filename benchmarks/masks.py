"""How many tokens masks need, and what focusing costs them: average precision of masks and boxes.

    python benchmarks/masks.py --data potholes=POTHOLES --data nuclei=NUCLEI --runs runs/masks

Each run of the plan (`masks.yaml`) is trained and evaluated as in `dial.py`, once for each data set and
seed: `any` for all budgets, `focus` for a budget of 0.3, `dense` over all tokens. What is finished stays and
what was stopped is resumed: the command can be given again, by several processes at once with other
``--only`` or ``--seeds`` (and ``--no-table``, which leaves comparing to the last call).

Rows of the table, each a run at a budget less what it is set against: `dense`; `focus`, the model of that
budget alone; and `all-tokens`, the same weights over all tokens. `AP` is of boxes, `mask_AP` of masks.
Intervals are of 95 %, by a bootstrap over the pictures and the seeds that both sides have (`compare`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planned import Plan, evaluated, main, row

ANY, FOCUS, DENSE = "any", "focus", "dense"


def table(plan: Plan, runs: Path) -> list[dict[str, Any]]:
    """The comparisons that there are runs for, all seeds that both sides have."""
    rows = []
    for name in plan["sets"]:
        for run, budget, label, other in comparisons(plan):
            pairs = evaluated(runs / name, other, (run, budget), plan["seeds"])
            if pairs:
                rows.append({"run": run} | row(name, budget, label, pairs))
    return rows


def comparisons(plan: Plan) -> list[tuple[str, float, str, tuple[str, float | None]]]:
    """Run, budget, and what it is set against: its label, and a run at a budget."""
    (own,) = plan["runs"][FOCUS]["budgets"]
    found = [(FOCUS, own, DENSE, (DENSE, None)), (ANY, own, FOCUS, (FOCUS, own))]
    budgets = plan["runs"][ANY]["budgets"]
    found += [(ANY, budget, DENSE, (DENSE, None)) for budget in budgets]
    return found + [(ANY, budget, "all-tokens", (ANY, 1.0)) for budget in budgets if budget != 1.0]


if __name__ == "__main__":
    main(__file__, __doc__, table)
