"""Draw the pictures of docs/index.md and docs/how-it-works.md with the bundled models, into docs/assets.

python scripts/draw_how_it_works.py

They hold no words, which stand in the pages, and clear gaps, so that they fit light and dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from focus_detr import FocusDetrConfig, Predictor
from focus_detr.explaining import PictureExplanation, explain_picture
from focus_detr.models.policies.foreground import FocusOptions
from focus_detr.pictures.boxes import draw_detections
from focus_detr.pictures.overlays import heated, lit, stretched
from focus_detr.pictures.pages import fitted
from focus_detr.structures.budget import Budget

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
STREET = ROOT / "examples" / "everyday" / "street.jpg"
SMEAR = ROOT / "examples" / "blood-cells" / "BloodImage_00057.jpg"
GREY, BLUE, AMBER = "#8b95a1", "#4a7dd6", "#d9962b"  # seen on white and on near-black


def main() -> None:
    everyday, cells = Predictor.from_pretrained("everyday"), Predictor.from_pretrained("blood-cells")
    draw_hero(everyday)
    street = look(everyday, STREET)
    draw_scores(street)
    smear = look(cells, SMEAR)
    draw_cascade(smear)
    draw_dual_attention(smear)
    draw_shares(ASSETS / "how-shares.svg")


def look(predictor: Predictor, path: Path) -> PictureExplanation:
    """What the model does with a picture at its own budget."""
    return explain_picture(predictor, Image.open(path).convert("RGB"), path.name, budgets=[], runs=1)


def draw_hero(predictor: Predictor) -> None:
    """The same picture twice: what was found, and where that was expected."""
    image = Image.open(STREET).convert("RGB")
    (detections,) = predictor.predict(STREET)
    seen = look(predictor, STREET)
    assert seen.scores is not None
    found = draw_detections(image, detections, legend=False)
    save(column([fitted(found.convert("RGB"), 900), heat(seen, fitted(image, 900))]), "hero.webp")


def heat(seen: PictureExplanation, backdrop: Image.Image) -> Image.Image:
    """The best foreground score of all levels, over the picture."""
    assert seen.scores is not None
    best = np.max([stretched(level, backdrop.size) for level in seen.scores], axis=0)
    return heated(backdrop, best / best.max())


def draw_scores(seen: PictureExplanation) -> None:
    """Foreground score of each level, fine to coarse, a cell a token."""
    assert seen.scores is not None
    backdrop = fitted(seen.image, 640)
    strongest = max(float(level.max()) for level in seen.scores)
    levels = [stretched(level, backdrop.size, cells=True) / strongest for level in seen.scores]
    save(beside([heated(backdrop, level) for level in levels]), "how-scores.webp")


def draw_cascade(seen: PictureExplanation) -> None:
    """The tokens that each encoder layer works on, first to last."""
    backdrop = fitted(seen.image, 640)
    save(beside([lit(backdrop, layer.kept) for layer in seen.own.layers]), "how-cascade.webp")


def draw_dual_attention(seen: PictureExplanation) -> None:
    """Of the first layer: the tokens it works on, and those of them that attend to one another."""
    backdrop, first = fitted(seen.image, 640), seen.own.layers[0]
    assert first.fine is not None
    save(beside([backdrop, lit(backdrop, first.kept), lit(backdrop, first.fine)]), "how-fine.webp")


def draw_shares(path: Path) -> None:
    """Share of tokens that each layer of `focus-detr-r50` works on, at its own budget and at two others."""
    from matplotlib import pyplot

    options = FocusOptions(**FocusDetrConfig.from_preset("focus-detr-r50").policy_options)
    ratio, cascade = options.keep_ratio, options.cascade
    own = ratio * float(np.mean(cascade))
    layers = np.arange(1, len(cascade) + 1)
    matplotlib.rcParams.update({"svg.hashsalt": "focus-detr", "svg.fonttype": "path", "font.size": 11})
    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    for budget, color, style in ((1.0, GREY, ":"), (own, BLUE, "-"), (own / 2, AMBER, "--")):
        kept, shares = Budget(budget).cascade(ratio, cascade)
        axes.stairs(
            [float(kept * share) for share in shares],
            np.arange(0.5, len(layers) + 1),
            label=f"budget {budget:.2g}",
            color=color,
            linestyle=style,
            linewidth=2.5,
        )
    axes.set(xlabel="encoder layer", ylabel="share of tokens", ylim=(0, 1.05), xticks=layers)
    axes.legend(frameon=False, labelcolor=GREY)
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set_color(GREY)
    axes.tick_params(colors=GREY)
    for name, spine in axes.spines.items():
        spine.set_color(GREY)
        spine.set_visible(name in ("left", "bottom"))
    figure.savefig(path, transparent=True, metadata={"Date": None})


def beside(pictures: Sequence[Image.Image], gap: int = 12) -> Image.Image:
    """One row of pictures of one size, with clear gaps."""
    width, height = pictures[0].size
    page = Image.new("RGBA", (len(pictures) * (width + gap) - gap, height))
    for number, picture in enumerate(pictures):
        page.paste(picture.convert("RGB"), (number * (width + gap), 0))
    return page


def column(pictures: Sequence[Image.Image], gap: int = 12) -> Image.Image:
    """One column of pictures of one width, with clear gaps."""
    page = Image.new("RGBA", (pictures[0].width, sum(each.height + gap for each in pictures) - gap))
    y = 0
    for picture in pictures:
        page.paste(picture.convert("RGB"), (0, y))
        y += picture.height + gap
    return page


def save(picture: Image.Image, name: str) -> None:
    picture.save(ASSETS / name, quality=80, method=6)


if __name__ == "__main__":
    main()
