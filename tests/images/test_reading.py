"""Every kind of image file becomes upright 8-bit RGB, or a clear error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from focus_detr.data import DetectionDataset
from focus_detr.data.records import Record
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import eight_bits, image_header, read_image, resized_size, to_rgb
from focus_detr.structures.instances import Instances
from helpers.tiny_datasets import write_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def colors(path: Path) -> list[list[int]]:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)[0].tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_a_stream_stays_its_owners(mode: str) -> None:
    stream = io.BytesIO()
    Image.new(mode, (4, 3)).save(stream, "PNG")
    for _ in range(2):
        assert read_image(stream).size == image_header(stream).size == (4, 3)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
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
    path = tmp_path / f"turned.{suffix}"
    stored.save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(upright))
    np.testing.assert_array_equal(np.asarray(to_rgb(read_image(path))), np.asarray(upright))
    header = image_header(path)
    assert header.size == (32, 16) and header.stored_size == stored.size


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.uint8([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert colors(tmp_path / "rgba.png") == [[*RED], [*WHITE], [204, 204, 204]]
    Image.fromarray(np.uint8([[[9, 255], [9, 0]]]), "LA").save(tmp_path / "la.png")
    assert colors(tmp_path / "la.png") == [[9, 9, 9], [*WHITE]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "solid.png")
    assert colors(tmp_path / "solid.png") == [[*RED], [0, 0, 255]]
    palette.save(tmp_path / "hole.png", transparency=1)
    assert colors(tmp_path / "hole.png") == [[*RED], [*WHITE]]


def test_grayscale_of_any_depth(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[0, 7, 255]])).save(tmp_path / "8.png")
    assert colors(tmp_path / "8.png") == [[0] * 3, [7] * 3, [255] * 3]
    Image.fromarray(np.uint8([[0, 255]])).convert("1").save(tmp_path / "1.png")
    assert colors(tmp_path / "1.png") == [[0] * 3, [255] * 3]
    sixteen = Image.fromarray(np.uint16([[0, 7 * 257, 0xFFFF]]))
    for suffix in ("png", "tif"):
        sixteen.save(tmp_path / f"16.{suffix}")
        assert colors(tmp_path / f"16.{suffix}") == [[0] * 3, [7] * 3, [255] * 3]
    Image.fromarray(np.int32([[0, 7 * 257, 0xFFFF]])).save(tmp_path / "32.tif")
    assert colors(tmp_path / "32.tif") == [[0] * 3, [7] * 3, [255] * 3]
    Image.fromarray(np.float32([[0, 0.5, 1, np.nan]])).save(tmp_path / "float.tif")
    assert colors(tmp_path / "float.tif") == [[0] * 3, [128] * 3, [255] * 3, [0] * 3]


def test_print_colors_and_animations(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    red, green, blue = colors(tmp_path / "cmyk.jpg")[0]
    assert red > 200 and green < 60 and blue < 60
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert colors(tmp_path / "moving.gif")[0] == [*RED]


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


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "is empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, which is not read"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is PostScript"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is SVG, XML or HTML"),
        (b"\n<!DOCTYPE html>", "is SVG, XML or HTML"),
        (b"\0\0\0\x18ftypisom", "is a video by the name of an image"),
        (b"\x1aE\xdf\xa3", "is a video"),
        (b"\0\0\0\x18ftypavif", "not an image|cannot be read|damaged"),
        (b"PK\x03\x04", "is an archive"),
        (b"words", "not an image of a known format"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(content: bytes, kind: str) -> None:
    with pytest.raises(FocusDetrError, match=f"image data: {kind}"):
        read_image(io.BytesIO(content))


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


@pytest.mark.parametrize("mode", ["I;16", "F", "LA", "RGBA", "P", "1"])
def test_a_picture_of_many_bands_is_one_of_one_band(tmp_path: Path, mode: str, monkeypatch) -> None:
    """Large pictures are converted some rows at a time: no seam, one brightness for all rows."""
    values = np.random.default_rng(0).integers(0, 256, (41, 30, 4), dtype=np.uint8)
    values[:20] //= 9
    if mode == "I;16":
        picture = Image.fromarray(values[..., 0].astype(np.uint16) * 200)
    elif mode == "F":
        picture = Image.fromarray(values[..., 0].astype(np.float32) / 255)
    else:
        picture = Image.fromarray(values).convert(mode)
    path = tmp_path / ("a.tif" if mode == "F" else "a.png")
    picture.save(path, **({"transparency": 3} if mode == "P" else {}))
    whole = np.asarray(read_image(path))
    monkeypatch.setattr("focus_detr.images.reading._BAND_PIXELS", 7 * 30)
    np.testing.assert_array_equal(np.asarray(read_image(path)), whole)
    assert len(np.unique(whole)) > 1


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("mode", ["1", "I;16", "LA", "RGBA", "RGB"])
def test_a_large_picture_takes_twice_its_decoded_size_at_most(tmp_path: Path, mode: str) -> None:
    size = 4000
    picture = Image.new(mode, (size, size))
    picture.save(tmp_path / "large.png", **({"exif": _exif(6)} if mode in ("RGB", "RGBA") else {}))
    script = """
import re, sys
from focus_detr.images.reading import read_image

def highest():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

before = highest()
read_image(sys.argv[1])
print(highest() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "large.png"], capture_output=True, text=True, check=True
    )
    # Pillow holds RGB in four bytes a pixel; the rest is for decoders and bands.
    assert int(done.stdout) < 2 * size * size * 4 + 30e6


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_tiff_is_read_as_a_small_one(
    tmp_path: Path, monkeypatch, mode, compression, orientation
) -> None:
    if mode in ("RGBA", "I;16", "F") and int(PIL.__version__.split(".")[0]) < 12:
        pytest.skip("older versions of Pillow keep their own limit for these, and the error says so")
    pixels = Image.linear_gradient("L").crop((0, 40, 200, 140))
    image = pixels if mode == "L" else pixels.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(pixels).astype(np.uint16) * 257)
    image.save(tmp_path / "a.tif", compression=compression, exif=_exif(orientation))
    expected = read_image(tmp_path / "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.tif")), np.asarray(expected))
    assert expected.size == ((200, 100) if orientation == 1 else (100, 200))
    assert np.asarray(expected).std() > 10


@pytest.mark.filterwarnings("error")
def test_the_limit_of_pixels_is_ours_and_says_how_to_raise_it(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "wide.png"
    Image.new("1", (4000, 500)).save(path)
    with pytest.raises(FocusDetrError, match=r"4000x500 .*--max-megapixels 2, .*max_pixels=2000000"):
        read_image(path, max_pixels=1_999_999)
    with pytest.raises(FocusDetrError, match="wide.png: 4000x500"):
        image_header(path, max_pixels=1_999_999)
    # Pillow's own, a global of the process that may be lower, neither refuses nor warns.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_image(path).size == image_header(path).size == (4000, 500)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(FocusDetrError, match="is a pipe or a device"):
            read_image(path)


def test_names_that_are_none_are_errors_of_ours(tmp_path: Path) -> None:
    for name in ("a\0.png", "n" * 5000, "\ud800.png"):
        with pytest.raises(FocusDetrError):
            read_image(name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_floating_point_is_one_or_255_with_room_for_what_resizing_overshoots(dtype) -> None:
    assert eight_bits(np.array([-0.04, 0, 0.5, 1, 1.0001, 1.4], dtype)).tolist() == [0, 0, 128, 255, 255, 255]
    assert eight_bits(np.array([-20, 0, 7, 255, 270], dtype)).tolist() == [0, 0, 7, 255, 255]
    assert eight_bits(np.array([np.nan, np.inf, -np.inf, 1, 0.5], dtype)).tolist() == [0, 255, 0, 255, 128]
    assert eight_bits(np.array([0.2, 0.9], dtype), float_range=255).tolist() == [0, 1]
    assert eight_bits(np.array([0.2, 9], dtype), float_range=1).tolist() == [51, 255]
    assert eight_bits(np.full(3, np.nan, dtype)).tolist() == [0, 0, 0]


def test_what_could_be_meant_otherwise_is_said() -> None:
    with pytest.warns(UserWarning, match="up to 3 are taken as 0..255.*float_range"):
        assert eight_bits(np.array([0.0, 3.0])).tolist() == [0, 3]
    for normalised in ([-2.1, 2.6], [-2.1, -2.0], [-1.0, 1.0]):
        with pytest.raises(FocusDetrError, match="look normalised already"):
            eight_bits(np.array(normalised))


def test_other_numbers_of_pixels(tmp_path: Path) -> None:
    assert eight_bits(np.array([True, False])).tolist() == [255, 0]
    assert eight_bits(np.array([0, 257, 65535], np.uint16)).tolist() == [0, 1, 255]
    assert eight_bits(np.array([-5, 7, 300], np.int64)).tolist() == [0, 7, 255]
    with pytest.raises(FocusDetrError, match="complex"):
        eight_bits(np.array([1j]))
    Image.fromarray(np.float32([[0, 0.5, 1, np.inf, -np.inf, 1.0001]])).save(tmp_path / "float.tif")
    assert [grey for grey, *_ in colors(tmp_path / "float.tif")] == [0, 128, 255, 255, 0, 255]


def test_boxes_in_fractions_are_of_the_picture_as_decoded(tmp_path: Path) -> None:
    """A header may state another size than the picture decodes to, as those of some TIFF files do."""
    path = write_image(tmp_path / "a.png", 40, 20)
    boxes = np.float32([[0.25, 0.5, 0.75, 1]])
    objects = Instances(boxes, np.zeros(1, np.int64))
    record = Record(path, 1, objects, relative=True, known_size=(80, 20))
    sample = DetectionDataset([record], ["cell"], [1])[0]
    assert sample.boxes_xyxy.tolist() == [[10, 10, 30, 20]] and record.size == (40, 20)
