"""What benchmarks share that train by a plan: each set and seed is trained once, and compared in pairs."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import kept
import yaml

from focus_detr.benchmarking import describe_environment
from focus_detr.benchmarking.report import write_csv
from focus_detr.evaluation import compare, evaluate, read_evaluated

MEASURES = ("AP", "AP50", "mask_AP", "mask_AP50")
"""Columns of a table; those of masks where both sides have them."""

Plan = Mapping[str, Any]
Table = Callable[[Plan, Path], list[dict[str, Any]]]
Prepared = Callable[[Plan, str, Path, int], Plan]


def main(
    script: str, description: str | None, rows: Table | None = None, prepared: Prepared | None = None
) -> None:
    """Finish the runs of the plan beside a script, and write its table as far as it is known after each.

    Args:
        rows: of the table of a plan whose runs lie in a folder; `table` if None.
        prepared: the plan of a run and seed, whose data set's runs lie in a folder; the plan itself if None.
    """
    options, rows = parser(script, description).parse_args(), rows or table
    plan = yaml.safe_load(options.plan.read_text())
    data = {name: Path(path) for name, _, path in (each.partition("=") for each in options.data)}
    for path in sorted(options.kept.glob("*/*-seed*.json.xz")) if options.kept else ():
        kept.restore(path, options.runs / path.parent.name / path.name.removesuffix(".json.xz"))
    for seed in plan["seeds"] if options.seeds is None else options.seeds:
        for name in data:
            for run in plan["runs"] if options.only is None else options.only:
                own = plan if prepared is None else prepared(plan, run, options.runs / name, seed)
                finish(own, name, data[name], run, seed, options)
                if options.table:
                    write(rows(plan, options.runs), options)
    if options.table:
        write(rows(plan, options.runs), options)


def parser(script: str, description: str | None) -> argparse.ArgumentParser:
    """Options of a script that trains by the plan beside it."""
    name = Path(script).stem
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(description=description, formatter_class=raw)
    result.add_argument("--plan", type=Path, default=Path(script).with_suffix(".yaml"))
    result.add_argument("--data", action="append", default=[], metavar="SET=PATH", help="of the plan's sets")
    result.add_argument("--runs", type=Path, default=Path("runs") / name, help="where runs are kept")
    result.add_argument(
        "--kept",
        type=Path,
        help="folder of evaluations in small files: runs that it has are not trained; others are added",
    )
    result.add_argument("--only", nargs="*", help="train these runs of the plan; with no name, none")
    result.add_argument("--seeds", nargs="*", type=int, help="train these seeds")
    result.add_argument("--device", default="cpu")
    result.add_argument("--no-table", dest="table", action="store_false", help="train and evaluate alone")
    result.add_argument("--output", type=Path, default=common.RESULTS / f"{name}.csv")
    return result


def finish(plan: Plan, name: str, data: Path, run: str, seed: int, options: argparse.Namespace) -> None:
    """Train the run, unless it is, and evaluate it at its budgets, unless it is."""
    folder = options.runs / name / f"{run}-seed{seed}"
    missing = [
        each for each in plan["runs"][run]["budgets"] if not (folder / at(each) / kept.FOUND).is_file()
    ]
    teaches = any(other.get("taught_by") == run for other in plan["runs"].values())
    if not (folder / "last").is_dir() and (missing or teaches):
        train(plan, name, data, run, seed, folder, options.device)
    for budget in missing:
        evaluate(
            folder / "last",
            data,
            split=plan["sets"][name]["split"],
            output=folder / at(budget),
            budget=budget,
            device=options.device,
            progress=False,
        )
    if options.kept and missing:
        evaluations = [folder / at(budget) for budget in plan["runs"][run]["budgets"]]
        kept.keep(evaluations, options.kept / name / f"{folder.name}.json.xz")


def train(plan: Plan, name: str, data: Path, run: str, seed: int, folder: Path, device: str) -> None:
    """By the command, from where the folder's checkpoints have come to."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(recipe_of(plan, name, run, seed), sort_keys=False))
    start = plan["runs"][run].get("start", plan["model"])
    words = ["train", data, "--model", start, "--recipe", path, "--output", folder]
    words += ["--time", plan["time"]] if "time" in plan else []
    words += ["--resume"] if (folder / "checkpoints").is_dir() else []
    command = [sys.executable, "-m", "focus_detr", *words, "--device", device]
    subprocess.run([str(word) for word in command], check=True)


def recipe_of(plan: Plan, name: str, run: str, seed: int) -> dict[str, Any]:
    """What the run of a data set and seed is trained by."""
    own = plan["runs"][run]
    recipe = merged(plan["recipe"], plan["sets"][name].get("recipe", {}), own.get("recipe", {}))
    return merged(recipe, {"seed": seed, "model": own.get("model", {})})


def at(budget: float | None) -> str:
    """The folder of a run's evaluation at a budget; its own where that is None."""
    return "evaluation" if budget is None else f"at-{budget}"


def merged(low: Mapping[str, Any], *over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within mappings, the later ones before the earlier."""
    result = dict(low)
    for each in over:
        for key, value in each.items():
            known = result.get(key)
            nested = isinstance(known, Mapping) and isinstance(value, Mapping)
            result[key] = merged(known, value) if nested else value
    return result


def evaluated(
    runs: Path, one: tuple[str, float | None], other: tuple[str, float | None], seeds: Sequence[int]
) -> list[tuple[Path, Path]]:
    """The evaluations of two runs, each at a budget, of the seeds that both have."""
    pairs = [
        (runs / f"{one[0]}-seed{seed}" / at(one[1]), runs / f"{other[0]}-seed{seed}" / at(other[1]))
        for seed in seeds
    ]
    return [pair for pair in pairs if all((each / kept.FOUND).is_file() for each in pair)]


def table(plan: Plan, runs: Path) -> list[dict[str, Any]]:
    """Of each set, run and budget: the run less the one it names `against`, of the seeds both have."""
    rows = []
    for name in plan["sets"]:
        for run, options in plan["runs"].items():
            other = options.get("against")
            for budget in options["budgets"] if other else ():
                if pairs := evaluated(runs / name, (other, budget), (run, budget), plan["seeds"]):
                    rows.append({"run": run, **row(name, budget, other, pairs)})
    return rows


def row(name: str, budget: float | None, label: str, pairs: list[tuple[Path, Path]]) -> dict[str, Any]:
    a, b = ([read_evaluated(each) for each in side] for side in zip(*pairs, strict=True))
    found = compare(a, b)
    result: dict[str, Any] = {"set": name, "budget": budget, "against": label, "seeds": found.runs}
    for measure in (measure for measure in MEASURES if measure in found.measures):
        each = found.measures[measure]
        values = {"": each.b, "_other": each.a, "_difference": each.difference}
        values |= {"_low": each.low, "_high": each.high}
        result |= {f"{measure}{key}": round(value, 4) for key, value in values.items()}
    return result


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The table as far as it is known, beside what it was made with."""
    if rows:
        write_csv(options.output, rows, describe_environment(options.device))
