"""What a start from `everyday` is worth to people's own data, against one from a backbone, at equal time.

    python benchmarks/starts.py --data bccd=BCCD --data potholes=POTHOLES --only everyday &
    python benchmarks/starts.py --data bccd=BCCD --data potholes=POTHOLES --only backbone

Each run of the plan (`starts.yaml`) has the same minutes, in which each trains as many steps as fit: started
at the same moment, one a core, both have the same machine. What is finished stays and what was stopped is
resumed. A row of the table is `everyday` less `backbone`, with intervals of 95 % by a bootstrap over the
pictures and the seeds that both sides have (`compare`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planned import Plan, evaluated, main, row

BACKBONE, EVERYDAY = ("backbone", None), ("everyday", None)


def table(plan: Plan, runs: Path) -> list[dict[str, Any]]:
    """A row of each data set that both sides have runs of."""
    rows = []
    for name in plan["sets"]:
        pairs = evaluated(runs / name, BACKBONE, EVERYDAY, plan["seeds"])
        if pairs:
            rows.append(row(name, None, BACKBONE[0], pairs))
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, table)
