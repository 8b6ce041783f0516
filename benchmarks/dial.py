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

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import yaml

from focus_detr.benchmarking import describe_environment
from focus_detr.benchmarking.report import write_csv
from focus_detr.evaluation import compare, evaluate, read_evaluated

ANY, DENSE = "any", "only-1.0"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--data", action="append", default=[], metavar="SET=PATH", help="of the plan's sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/dial"), help="where runs are kept")
    parser.add_argument("--only", nargs="*", help="train these runs of the plan; with no name, none")
    parser.add_argument("--seeds", nargs="*", type=int, help="train these seeds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "dial.csv")
    options = parser.parse_args()
    plan = yaml.safe_load(options.plan.read_text())
    data = {name: Path(path) for name, _, path in (each.partition("=") for each in options.data)}
    for seed in plan["seeds"] if options.seeds is None else options.seeds:
        for name in data:
            for run in plan["runs"] if options.only is None else options.only:
                finish(plan, name, data[name], run, seed, options)
                write_table(plan, options)
    write_table(plan, options)


def finish(
    plan: Mapping[str, Any], name: str, data: Path, run: str, seed: int, options: argparse.Namespace
) -> None:
    """Train the run, unless it is, and evaluate it at its budgets, unless it is."""
    folder = options.runs / name / f"{run}-seed{seed}"
    recipe = merged(plan["recipe"], plan["sets"][name].get("recipe", {}), plan["runs"][run].get("recipe", {}))
    recipe = merged(recipe, {"seed": seed, "model": plan["runs"][run].get("model", {})})
    if not (folder / "last").is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = folder.parent / f"{folder.name}.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        start = plan["runs"][run].get("start", plan["model"])
        words = ["train", data, "--model", start, "--recipe", path, "--output", folder]
        resume = ["--resume"] if (folder / "checkpoints").is_dir() else []
        command = [sys.executable, "-m", "focus_detr", *words, "--device", options.device, *resume]
        subprocess.run([str(word) for word in command], check=True)
    for budget in plan["runs"][run]["budgets"]:
        if not (folder / f"at-{budget}" / "predictions.json").is_file():
            evaluate(
                folder / "last",
                data,
                split=plan["sets"][name]["split"],
                output=folder / f"at-{budget}",
                budget=budget,
                device=options.device,
                progress=False,
            )


def merged(low: Mapping[str, Any], *over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within mappings, the later ones before the earlier."""
    result = dict(low)
    for each in over:
        for key, value in each.items():
            known = result.get(key)
            nested = isinstance(known, Mapping) and isinstance(value, Mapping)
            result[key] = merged(known, value) if nested else value
    return result


def write_table(plan: Mapping[str, Any], options: argparse.Namespace) -> None:
    """The comparisons that there are runs for, all seeds that both sides have."""
    rows = []
    for name in plan["sets"]:
        runs = options.runs / name
        for budget in plan["runs"][ANY]["budgets"]:
            for label, other, at in (("alone", f"only-{budget}", budget), ("dense", DENSE, 1.0)):
                if other not in plan["runs"]:
                    continue
                pairs = evaluated(runs, (other, at), (ANY, budget), plan["seeds"])
                if pairs:
                    rows.append(row(name, budget, label, pairs))
    if rows:
        write_csv(options.output, rows, describe_environment())


def evaluated(
    runs: Path, one: tuple[str, float], other: tuple[str, float], seeds: Sequence[int]
) -> list[tuple[Path, Path]]:
    """The evaluations of two runs, each at a budget, of the seeds that both have."""
    pairs = [
        (runs / f"{one[0]}-seed{seed}" / f"at-{one[1]}", runs / f"{other[0]}-seed{seed}" / f"at-{other[1]}")
        for seed in seeds
    ]
    return [pair for pair in pairs if all((each / "predictions.json").is_file() for each in pair)]


def row(name: str, budget: float, label: str, pairs: list[tuple[Path, Path]]) -> dict[str, Any]:
    a, b = ([read_evaluated(each) for each in side] for side in zip(*pairs, strict=True))
    found = compare(a, b)
    result: dict[str, Any] = {"set": name, "budget": budget, "against": label, "seeds": found.runs}
    for measure in ("AP", "AP50"):
        each = found.measures[measure]
        values = {"": each.b, "_other": each.a, "_difference": each.difference}
        values |= {"_low": each.low, "_high": each.high}
        result |= {f"{measure}{key}": round(value, 4) for key, value in values.items()}
    return result


if __name__ == "__main__":
    main()
