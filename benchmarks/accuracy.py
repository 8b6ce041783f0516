"""Train and measure hosts and token policies at an equal budget.

    python benchmarks/accuracy.py DATA --plan benchmarks/accuracy.yaml --runs runs/accuracy

Runs of the plan that are not finished are trained (or resumed) one after the other by the project's own train
command, and measured on the test split by its own evaluate command; what is finished stays as it is, so the
command can be stopped and given again. Each finished run adds a row to the table; its log and recipe are kept
beside it. ``--only`` takes some runs of the plan, so that several machines or processes can share it, and
``--seeds`` with no number trains nothing: the table and the picture are made of what there is.

`recall_first` and `recall_last` are the share of the objects that a token kept in the first and in the last
encoder layer lies in; `encoder_gmacs` are of the encoder and of the choice of its tokens, at 224x299.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#6a51a3")
RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    "run", "preset", "host", "policy", "keep_ratio", "seed", "AP", "AP50", "AP75", "recall_first",
    "recall_last", "encoder_gmacs", "parameters_m", "cpu_minutes", "epochs", "size",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--plan", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="where runs are kept")
    parser.add_argument("--only", nargs="*", help="names of runs, without seeds")
    parser.add_argument("--seeds", nargs="*", type=int, help="only these seeds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()

    plan = yaml.safe_load(arguments.plan.read_text())
    kept = RESULTS / arguments.plan.stem
    kept.mkdir(parents=True, exist_ok=True)
    for name, run in plan["runs"].items():
        for seed in run.get("seeds", [0]):
            chosen = not arguments.only or name in arguments.only
            if chosen and (arguments.seeds is None or seed in arguments.seeds):
                one_run(name, seed, run, plan["recipe"], arguments, kept)
    write_table(kept)


def one_run(
    name: str,
    seed: int,
    run: dict[str, Any],
    recipe: dict[str, Any],
    arguments: argparse.Namespace,
    kept: Path,
) -> None:
    label = f"{name}-seed{seed}"
    record = kept / f"{label}.json"
    if record.is_file():
        return
    folder = arguments.runs / label
    folder.mkdir(parents=True, exist_ok=True)
    from focus_detr.training.recipe import load_recipe

    base = load_recipe(recipe["extends"])
    merged = {
        **recipe,
        **run.get("recipe", {}),
        "seed": seed,
        "model": {**base.model, **recipe.get("model", {}), **run.get("model", {})},
    }
    path = kept / f"{label}.yaml"
    path.write_text(yaml.safe_dump(merged, sort_keys=False))
    command = [sys.executable, "-m", "focus_detr"]
    resume = (
        ["--resume"] if (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir()) else []
    )
    train = [*command, "train", str(arguments.data), "--model", run["preset"], "--recipe", str(path)]
    before = processor_seconds()
    subprocess.run([*train, "--output", str(folder), "--device", arguments.device, *resume], check=True)
    minutes = (processor_seconds() - before) / 60
    report = evaluate(folder, arguments)
    (kept / f"{label}.csv").write_text((folder / "metrics.csv").read_text())
    row = describe(folder) | {
        "run": name,
        "preset": run["preset"],
        "seed": seed,
        **{key: round(report["metrics"][key], 4) for key in ("AP", "AP50", "AP75")},
        **recall(report),
        # A resumed run took longer than this command did.
        "cpu_minutes": None if resume else round(minutes, 1),
        "epochs": merged["epochs"],
        "size": f"{merged['shortest_edge']}..{merged['longest_edge']}",
    }
    record.write_text(json.dumps(row, indent=1) + "\n")
    write_table(kept)


def evaluate(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the evaluate command says of a run."""
    command = [sys.executable, "-m", "focus_detr", "evaluate", str(folder), str(arguments.data)]
    options = ["--split", arguments.split, "--batch-size", "1", "--device", arguments.device, "--json"]
    output = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout.splitlines()[-1])


def processor_seconds() -> float:
    """Of all child processes that have ended: unlike the clock's, they do not count what else goes on."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def describe(folder: Path) -> dict[str, Any]:
    """What the trained model is, and what its encoder computes for one image of that size."""
    from focus_detr import FocusDetrConfig, resolve_model
    from focus_detr.benchmarking import count_macs
    from focus_detr.models.policies import POLICIES

    config = FocusDetrConfig.from_pretrained(resolve_model(folder))
    cost = count_macs(config, 224, 299)
    return {
        "host": config.host,
        "policy": config.token_policy,
        "keep_ratio": config.keep_ratio if POLICIES[config.token_policy].has_keep_ratio else None,
        "encoder_gmacs": round((cost.scoring + cost.encoder) / 1e9, 3),
        "parameters_m": round(cost.parameters / 1e6, 2),
    }


def recall(report: dict[str, Any]) -> dict[str, float | None]:
    tokens = report["foreground_recall"]
    layers = tokens["recall"]["all"] if tokens else [None]  # every token is kept
    named = {"recall_first": layers[0], "recall_last": layers[-1]}
    return {name: None if value is None else round(value, 4) for name, value in named.items()}


def write_table(kept: Path) -> None:
    rows = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    if not rows:
        return
    with (kept.parent / f"{kept.name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, kept.parent / f"{kept.name}.png")
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row)
    for seeds in runs.values():
        print(markdown(seeds))


def markdown(seeds: list[dict[str, Any]]) -> str:
    """One run in docs/benchmarks.md: the mean and the range over its seeds."""

    def mean(column: str, digits: int, default: float | None = None) -> str:
        values = [default if row[column] is None else row[column] for row in seeds]
        known = [value for value in values if value is not None]
        return f"{sum(known) / len(known):.{digits}f}" if known else ""

    precision = sorted(row["AP"] for row in seeds)
    spread = f" ({precision[0]:.3f} to {precision[-1]:.3f})" if len(seeds) > 1 else ""
    recalls = [mean(column, 2, 1.0) for column in ("recall_first", "recall_last")]
    cost = [mean("encoder_gmacs", 3), mean("cpu_minutes", 1)]
    cells = [seeds[0]["run"], mean("AP", 3) + spread, mean("AP50", 3), *recalls, *cost]
    return f"| {' | '.join(cells)} |"


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """AP against the encoder's operations: a line for each policy, the mean and the range over its seeds.

    Of the host dino alone: DETR's encoder has one level of tokens, and learns slowly.
    """
    from focus_detr.benchmarking.plots import new_figure

    figure, axes = new_figure("Accuracy against encoder compute", "encoder, GMACs an image", "AP, test split")
    policies: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if is_variant(row["run"]) or row["host"] != "dino":
            continue
        runs = policies.setdefault(row["policy"], {})
        runs.setdefault(row["run"], []).append(row)
    for place, (label, runs) in enumerate(sorted(policies.items())):
        points = sorted(
            (seeds[0]["encoder_gmacs"], sorted(row["AP"] for row in seeds), name)
            for name, seeds in runs.items()
        )
        means = [sum(values) / len(values) for _, values, _ in points]
        color = COLORS[place % len(COLORS)]
        axes.plot([x for x, _, _ in points], means, "o-", color=color, label=label, markersize=4)
        for (x, values, name), mean in zip(points, means, strict=True):
            axes.vlines(x, values[0], values[-1], color=color)
            ratio = name.rpartition("-")[2]
            if len(points) > 1:
                axes.annotate(ratio, (x, mean), (4, 4), textcoords="offset points", fontsize=7, color=color)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=150, facecolor="white")


def is_variant(run: str) -> bool:
    """A part of the paper's left out, or a quirk put back: in the table alone."""
    return run.startswith("focus-0.3-")


if __name__ == "__main__":
    main()
