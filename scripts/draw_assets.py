"""Draw the pictures of the README and the documents with the bundled model.

python scripts/draw_assets.py        # what the bundled examples show
python scripts/draw_assets.py BCCD   # and what the model keeps of a copy of its data set

docs/assets/explain-page.jpg is the browser's: explanation.html at its smallest budget, a box chosen.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from focus_detr import Predictor
from focus_detr.explaining import explain_data, explain_picture
from focus_detr.explaining.picture_page import explanation_page
from focus_detr.explaining.recall_page import plot_recall
from focus_detr.pictures.boxes import contact_sheet, draw_detections
from focus_detr.pictures.heatmap import draw_heatmap

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples" / "blood-cells").glob("*.jpg"))
ASSETS = ROOT / "docs" / "assets"


def main() -> None:
    ASSETS.mkdir(parents=True, exist_ok=True)
    predictor = Predictor.from_pretrained("blood-cells")
    drawn = []
    for path, detections in zip(EXAMPLES, predictor.predict(EXAMPLES), strict=True):
        drawn.append(draw_detections(Image.open(path), detections))
    contact_sheet(drawn).convert("RGB").save(ASSETS / "demo.jpg", quality=88)
    draw_heatmap(predictor, Image.open(EXAMPLES[-1])).convert("RGB").save(ASSETS / "heatmap.jpg", quality=88)
    seen = explain_picture(predictor, Image.open(EXAMPLES[-1]), EXAMPLES[-1].name)
    page = explanation_page(seen)
    page.thumbnail((1000, page.height))
    page.save(ASSETS / "explain-picture.jpg", quality=85)
    for data in sys.argv[1:]:
        plot_recall(explain_data(predictor, data, split="val", progress=True), ASSETS / "explain-recall.png")


if __name__ == "__main__":
    main()
