"""Draw the pictures of the README and the documents with the bundled model.

python scripts/draw_assets.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from focus_detr import Predictor
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


if __name__ == "__main__":
    main()
