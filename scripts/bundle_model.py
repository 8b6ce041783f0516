"""Make a trained run a model that ships with the package: half-precision weights, measured, with a card.

    python scripts/bundle_model.py RUN DATA --name blood-cells --card scripts/cards/blood-cells.md

The score threshold is the one of the highest F1 on ``--threshold-split``, with ``--class-thresholds`` that of
each class, too; the figures of the card are those of ``--split``, of the weights as they are shipped.
The card's text comes from ``--card``; ``{...}`` in it is filled in from the measurement and the recipe.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, FocusDetrImageProcessor, resolve_model
from focus_detr.evaluation import EvaluationReport, evaluate
from focus_detr.models.backbones.catalogue import image_normalization

BUNDLED = Path(__file__).parents[1] / "src" / "focus_detr" / "zoo" / "bundled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--threshold-split", default="val")
    parser.add_argument("--class-thresholds", action="store_true", help="that of each class, too")
    parser.add_argument("--split", default="test")
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--decoder-layers", type=int, help="that a call runs which says none")
    parser.add_argument("--budgets", nargs="*", type=float, default=[], help="measure these, too")
    parser.add_argument("--output", type=Path, help="folder, instead of the package's")
    arguments = parser.parse_args()

    folder = arguments.output or BUNDLED / arguments.name
    copy_in_half_precision(resolve_model(arguments.run), folder)
    shutil.copyfile(arguments.run / "metrics.csv", folder / "training.csv")
    config = FocusDetrConfig.from_pretrained(folder)
    if arguments.decoder_layers is not None:
        config.used_decoder_layers = arguments.decoder_layers
        config.save_pretrained(folder)
    chosen = evaluate(folder, arguments.data, split=arguments.threshold_split)
    config.score_threshold = chosen.threshold
    best = {curve.name: curve.best_threshold for curve in chosen.f1[1:]} if arguments.class_thresholds else {}
    config.class_thresholds = {name: round(score, 4) for name, score in best.items() if score is not None}
    config.save_pretrained(folder)
    report = evaluate(folder, arguments.data, split=arguments.split)
    (folder / "evaluation.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    by_budget = {
        budget: evaluate(folder, arguments.data, split=arguments.split, budget=budget).metrics.summary
        for budget in arguments.budgets
    }
    text = card(arguments, report, config, folder, by_budget)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(report.summary())


def copy_in_half_precision(source: Path, folder: Path) -> None:
    """Weights rounded to half precision; the configuration still says in which they are to be used."""
    folder.mkdir(parents=True, exist_ok=True)
    model = FocusDetrForObjectDetection.from_pretrained(source)
    model.save_pretrained(folder)
    FocusDetrImageProcessor.from_pretrained(source).save_pretrained(folder)
    # By the names that the model has today; what save_pretrained writes has those that it was read by.
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})


def card(
    arguments: argparse.Namespace,
    report: EvaluationReport,
    config: FocusDetrConfig,
    folder: Path,
    by_budget: Mapping[float, Mapping[str, float]],
) -> str:
    """The template with the measured figures, the recipe and the size filled in."""
    measures, recipe = report.metrics.summary, config.training_recipe or {}
    classes = "\n".join(
        f"| {item.name} | {item.objects} | {item.ap:.3f} | {item.ap50:.3f} |"
        for item in report.metrics.per_class
    )
    budgets = "\n".join(
        f"| {budget:g} | {found['AP']:.3f} | {found['AP50']:.3f} |" for budget, found in by_budget.items()
    )
    recall = report.tokens["recall"]["all"] if report.tokens else []
    return arguments.card.read_text(encoding="utf-8").format(
        ap=f"{measures['AP']:.3f}",
        ap50=f"{measures['AP50']:.3f}",
        ap75=f"{measures['AP75']:.3f}",
        images=report.metrics.images,
        classes=classes,
        budgets=budgets,
        recall=", ".join(f"{value:.3f}" for value in recall) or "every token is kept",
        pixels=said_of_pixels(config, FocusDetrImageProcessor.from_pretrained(folder)),
        threshold=", ".join(
            [
                f"{config.score_threshold:.2f}",
                *(f"{score:.2f} for {name}" for name, score in config.class_thresholds.items()),
            ]
        ),
        megabytes=f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}",
        epochs=recipe.get("epochs"),
        steps=recipe.get("max_steps"),
        seed=recipe.get("seed"),
        recipe=recipe.get("name"),
    )


def said_of_pixels(config: FocusDetrConfig, processor: FocusDetrImageProcessor) -> str:
    """How pixels are normalised, and whether the backbone's weights were trained so."""
    used = processor.image_mean, processor.image_std
    known = image_normalization(config.backbone_config)
    mean, std, known_mean, known_std = (
        ", ".join(f"{value:.3f}" for value in each) for each in (*used, *known)
    )
    if (mean, std) == (known_mean, known_std):
        return f"Pixels have mean {mean} and deviation {std}, those of the backbone's weights."
    return (
        f"Trained and used with pixels of mean {mean} and deviation {std}; the backbone's weights\n"
        f"know a mean of {known_mean} and a deviation of {known_std}. The figures stand until it is\n"
        "trained anew."
    )


if __name__ == "__main__":
    main()
