"""Every kind of image file becomes upright 8-bit RGB, or a clear error."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import image_header, read_image, resized_size
from helpers.tiny_datasets import write_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def colours(path: Path) -> list[list[int]]:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)[0].tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """A picture whose top left is red when upright is stored turned, for each of the eight ways."""
    upright = Image.new("RGB", (32, 16), "blue")
    upright.paste("red", (0, 0, 16, 8))
    turn_back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if turn_back is None else upright.transpose(turn_back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(upright))
    header = image_header(path)
    assert header.size == (32, 16) and header.stored_size == stored.size


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.uint8([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert colours(tmp_path / "rgba.png") == [[*RED], [*WHITE], [204, 204, 204]]
    Image.fromarray(np.uint8([[[9, 255], [9, 0]]]), "LA").save(tmp_path / "la.png")
    assert colours(tmp_path / "la.png") == [[9, 9, 9], [*WHITE]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "solid.png")
    assert colours(tmp_path / "solid.png") == [[*RED], [0, 0, 255]]
    palette.save(tmp_path / "hole.png", transparency=1)
    assert colours(tmp_path / "hole.png") == [[*RED], [*WHITE]]


def test_grayscale_of_any_depth(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[0, 7, 255]])).save(tmp_path / "8.png")
    assert colours(tmp_path / "8.png") == [[0] * 3, [7] * 3, [255] * 3]
    Image.fromarray(np.uint8([[0, 255]])).convert("1").save(tmp_path / "1.png")
    assert colours(tmp_path / "1.png") == [[0] * 3, [255] * 3]
    sixteen = Image.fromarray(np.uint16([[0, 7 * 257, 0xFFFF]]))
    for suffix in ("png", "tif"):
        sixteen.save(tmp_path / f"16.{suffix}")
        assert colours(tmp_path / f"16.{suffix}") == [[0] * 3, [7] * 3, [255] * 3]
    Image.fromarray(np.int32([[0, 7 * 257, 0xFFFF]])).save(tmp_path / "32.tif")
    assert colours(tmp_path / "32.tif") == [[0] * 3, [7] * 3, [255] * 3]
    Image.fromarray(np.float32([[0, 0.5, 1, np.nan]])).save(tmp_path / "float.tif")
    assert colours(tmp_path / "float.tif") == [[0] * 3, [128] * 3, [255] * 3, [0] * 3]


def test_print_colours_and_animations(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    red, green, blue = colours(tmp_path / "cmyk.jpg")[0]
    assert red > 200 and green < 60 and blue < 60
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert colours(tmp_path / "moving.gif")[0] == [*RED]


def test_bytes_in_memory(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    from_memory = read_image(io.BytesIO(path.read_bytes()))
    np.testing.assert_array_equal(np.asarray(from_memory), np.asarray(read_image(path)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    whole = write_image(tmp_path / f"whole.{suffix}", 200, 200).read_bytes()
    contents = {"empty": b"", "text": b"no image at all", "cut short": whole[: len(whole) // 2]}
    for name, content in contents.items():
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(content)
        with pytest.raises(FocusDetrError, match=f"{name}.{suffix}"):
            read_image(path)
    with pytest.raises(FocusDetrError, match="absent.jpg: no such image file"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(FocusDetrError, match="folder"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_lose_the_image(tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    Image.new("RGB", (6, 4), "red").save(path, exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\xff")
    assert read_image(path).size == image_header(path).size == (6, 4)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 1000), st.integers(0, 1000))
def test_resized_size_stays_within_its_limits(height: int, width: int, shortest: int, more: int) -> None:
    new_height, new_width = resized_size(height, width, shortest, shortest + more)
    assert 1 <= min(new_height, new_width) <= shortest
    assert max(new_height, new_width) <= shortest + more
    # One of the two limits is reached.
    assert min(new_height, new_width) == shortest or max(new_height, new_width) == shortest + more
    assert resized_size(width, height, shortest, shortest + more) == (new_width, new_height)
