"""Draw the pictures of the README and the documents with the bundled models.

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
SMEAR = ROOT / "examples" / "blood-cells" / "BloodImage_00057.jpg"
EVERYDAY = sorted((ROOT / "examples" / "everyday").glob("*.jpg"))
ASSETS = ROOT / "docs" / "assets"


def main() -> None:
    ASSETS.mkdir(parents=True, exist_ok=True)
    everyday = Predictor.from_pretrained("everyday")
    drawn = []
    for path, detections in zip(EVERYDAY, everyday.predict(EVERYDAY), strict=True):
        drawn.append(draw_detections(Image.open(path), detections))
    contact_sheet(drawn).convert("RGB").save(ASSETS / "everyday.jpg", quality=88)
    street = draw_heatmap(everyday, Image.open(EVERYDAY[2])).convert("RGB")
    street.thumbnail((1200, street.height))
    street.save(ASSETS / "everyday-heatmap.jpg", quality=85)
    predictor = Predictor.from_pretrained("blood-cells")
    seen = explain_picture(predictor, Image.open(SMEAR), SMEAR.name)
    page = explanation_page(seen)
    page.thumbnail((1000, page.height))
    page.save(ASSETS / "explain-picture.jpg", quality=85)
    for data in sys.argv[1:]:
        plot_recall(explain_data(predictor, data, split="val", progress=True), ASSETS / "explain-recall.png")


if __name__ == "__main__":
    main()
