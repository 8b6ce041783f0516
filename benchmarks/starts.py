"""What a start from `everyday` is worth to people's own data, against one from a backbone, at equal time.

    python benchmarks/starts.py --data bccd=BCCD --data potholes=POTHOLES --only everyday &
    python benchmarks/starts.py --data bccd=BCCD --data potholes=POTHOLES --only backbone

Each run of the plan (`starts.yaml`) has the same minutes, in which each trains as many steps as fit: started
at the same moment, one a core, both have the same machine. What is finished stays and what was stopped is
resumed. A row of the table is `everyday` less `backbone`, with intervals of 95 % by a bootstrap over the
pictures and the seeds that both sides have (`compare`).
"""

from __future__ import annotations

from planned import evaluated, finish, parser, read, row, write

BACKBONE, EVERYDAY = ("backbone", None), ("everyday", None)


def main() -> None:
    options = parser(__file__, __doc__).parse_args()
    plan, data, seeds, runs = read(options)
    for seed in seeds:
        for name in data:
            for run in runs:
                finish(plan, name, data[name], run, seed, options)
    rows = []
    for name in plan["sets"]:
        pairs = evaluated(options.runs / name, BACKBONE, EVERYDAY, plan["seeds"])
        if pairs:
            rows.append(row(name, None, BACKBONE[0], pairs))
    write(rows, options)


if __name__ == "__main__":
    main()
