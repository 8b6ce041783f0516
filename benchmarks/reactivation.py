"""Tokens that may come back against tokens that are left for good: average precision, with intervals.

    python benchmarks/reactivation.py --data bccd=BCCD --data sky=SKY --data potholes=POTHOLES

Each run of the plan (`reactivation.yaml`) goes on with the same model, which detects already, for the same
steps of the same pictures; how runs are kept, and several processes share them, as in `dial.py`, whose rows
the table has, too. `any`: the model for all budgets whose layers choose from all tokens again less the one
whose layers do not. Intervals are of 95 %, by a bootstrap over the pictures and the seeds that both sides
have (`compare`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dial
from planned import Plan, main, table


def rows(plan: Plan, runs: Path) -> list[dict[str, Any]]:
    """What each run is less the one that it names, and what `dial.py` compares."""
    return table(plan, runs) + dial.table(plan, runs)


if __name__ == "__main__":
    main(__file__, __doc__, rows)
