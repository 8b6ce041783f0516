"""Small videos, written by PyAV, whose frames tell which they are by how bright they are."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

STEP = 12
"""Grey levels from one frame to the next."""


def frame_of(image: Image.Image) -> int:
    """Which frame a picture of `write_video` is."""
    return round(float(np.asarray(image.convert("L")).mean()) / STEP)


def write_video(
    file: Path | object,
    frames: int = 20,
    rate: int | Fraction = 10,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    times: list[float] | None = None,
    format: str | None = None,
    **options: str,
) -> None:
    """``size`` (width, height); `times` in seconds, of frames that do not come evenly."""
    import av

    with av.open(file if hasattr(file, "write") else str(file), "w", format, options=options) as container:
        stream = container.add_stream(codec, rate=rate, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.max_b_frames = 0
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(frames):
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (STEP * index,) * 3))
            if times is not None:
                frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
