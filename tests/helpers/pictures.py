"""Pictures to look at that show nothing."""

import numpy as np
from PIL import Image


def noise(width: int, height: int, spread: float = 90.0, seed: int = 0) -> Image.Image:
    """An RGB picture of grey noise; Pillow's own depends on what the process drew before."""
    values = np.random.default_rng(seed).normal(128, spread, (height, width))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
