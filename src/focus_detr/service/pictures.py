"""A picture of a request: read with a limit of pixels and of memory, and prepared for its model."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import image_header
from focus_detr.images.reduced import read_for
from focus_detr.service.errors import ServiceError
from focus_detr.service.memory import Room, Share

if TYPE_CHECKING:
    from focus_detr.service.served import ServedModel

BYTES_A_PIXEL = 10
"""What decoding takes at most: the picture as its file has it (progressive JPEG: 6), and as RGB beside it."""
_ANY_SIZE = 1 << 62


@dataclass(frozen=True)
class Prepared:
    """A picture as its model takes it.

    Attributes:
        pixel_values, pixel_mask: (1,3,H,W) and (1,H,W).
        size: (height, width) of the upright picture.
        seconds: that reading and preparing took.
    """

    pixel_values: Tensor
    pixel_mask: Tensor
    size: tuple[int, int]
    seconds: float


def prepare_picture(
    content: bytes, model: ServedModel, max_pixels: int, room: Room, busy: Callable[[], ServiceError]
) -> Prepared:
    """Read a file's content and prepare it.

    Args:
        room: what decoding may take its memory of.
        busy: the error where there is no room.

    Raises:
        ServiceError: no picture, one cut short, too many pixels, or no memory for it now.
    """
    started = time.monotonic()
    try:
        width, height = image_header(io.BytesIO(content), _ANY_SIZE).size
        if width * height > max_pixels:
            raise ServiceError(
                413,
                "too_many_pixels",
                f"{width}x{height} is more than the {max_pixels / 1e6:g} million pixels taken; send the "
                "picture smaller",
            )
        with_room = Share(room)
        try:
            if not with_room.grow(BYTES_A_PIXEL * width * height):
                raise busy()
            predictor = model.predictor
            rule = getattr(predictor.processor, "size_of", None)
            # Of icons the size is known only when decoded: the limit holds there, too.
            read = read_for(io.BytesIO(content), rule or (lambda *size: size), max_pixels)
            pixel_values, pixel_mask = predictor.prepare([read.image])
        finally:
            with_room.close()
    except FocusDetrError as error:
        raise ServiceError(422, "unreadable_picture", _without_name(error)) from error
    return Prepared(pixel_values, pixel_mask, read.size[::-1], time.monotonic() - started)


def _without_name(error: FocusDetrError) -> str:
    return str(error).removeprefix("image data: ")
