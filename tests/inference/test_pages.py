"""Files of many pictures: pages of TIFF, frames of animations."""

import io

import pytest
from PIL import Image, TiffImagePlugin

from focus_detr.inference import BadImage, expand_sources
from helpers.pictures import noise


def pages(*levels, size=(12, 8)):
    return [Image.new("RGB", size, (level, level, level)) for level in levels]


def save(file, images, **options):
    images[0].save(file, save_all=True, append_images=images[1:], **options)
    return file


def seen(source, **options):
    """Name behind the file's own, and grey level, of each; reasons of what cannot be read."""
    found = []
    for item in expand_sources(source, **options):
        image = item if isinstance(item, BadImage) else item.load()
        name = (image.path if isinstance(image, BadImage) else item.name).removeprefix(str(source))
        found.append((name, image.reason if isinstance(image, BadImage) else image.getpixel((2, 2))[0]))
    return found


def test_the_pages_of_a_tiff_are_pictures_by_number(tmp_path):
    file = save(tmp_path / "scan.tif", pages(10, 20, 30))
    assert seen(file) == [("#page=1", 10), ("#page=2", 20), ("#page=3", 30)]
    # In any order, each as often as asked for.
    first, _, third = expand_sources(file)
    assert [item.load().getpixel((0, 0))[0] for item in (third, first, third)] == [30, 10, 30]


def test_a_single_page_keeps_the_name_of_the_file(tmp_path):
    assert seen(save(tmp_path / "scan.tiff", pages(10))) == [("", 10)]


def test_pages_of_other_sizes_and_modes_and_turns(tmp_path):
    turned = Image.new("L", (6, 4), 50)
    turned.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = [Image.new("1", (5, 5), 1), turned, Image.new("I;16", (7, 3), 257 * 9)]
    stream = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(stream) as file:
        for image in content:
            image.save(file, "TIFF", **({"exif": exif} if image is turned else {}))
            file.newFrame()
    (tmp_path / "scan.tif").write_bytes(stream.getvalue())
    images = [item.load() for item in expand_sources(tmp_path / "scan.tif")]
    assert [image.size for image in images] == [(5, 5), (4, 6), (7, 3)]
    assert [image.mode for image in images] == ["RGB"] * 3
    assert images[1].getpixel((3, 0)) == (255,) * 3 and images[2].getpixel((0, 0)) == (9, 9, 9)


def test_previews_of_a_page_are_no_pages(tmp_path):
    stream = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(stream) as file:
        for image, kind in zip(pages(10, 20, 30), (0, 1, 4), strict=True):
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[254] = kind
            image.save(file, "TIFF", tiffinfo=tags)
            file.newFrame()
    (tmp_path / "scan.tif").write_bytes(stream.getvalue())
    assert seen(tmp_path / "scan.tif") == [("", 10)]


def test_a_page_that_is_too_large_spoils_no_other(tmp_path):
    file = save(tmp_path / "scan.tif", [*pages(10, size=(40, 40)), *pages(20)])
    (first, reason), second = seen(file, max_pixels=1000)
    assert first == "#page=1" and "above the limit" in reason and second == ("#page=2", 20)


def test_pages_before_the_damage_are_kept(tmp_path):
    content = save(tmp_path / "scan.tif", pages(10, 20, 30)).read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) - 150])
    *good, (name, reason) = seen(tmp_path / "cut.tif")
    assert good[:1] == [("#page=1", 10)] and name.startswith("#page=") and "damaged" in reason
    noisy = save(
        tmp_path / "noisy.tif", [noise(64, 64, seed=n) for n in range(4)], compression="tiff_lzw"
    ).read_bytes()
    for share in (0.4, 0.6, 0.8):
        (tmp_path / "cut.tif").write_bytes(noisy[: int(share * len(noisy))])
        *good, (name, reason) = seen(tmp_path / "cut.tif")
        assert len(good) >= int(share * 4) and name.startswith("#page=") and "damaged" in reason
    (tmp_path / "bad.tif").write_bytes(content[:6])
    assert len(seen(tmp_path / "bad.tif")) == 1


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_the_frames_of_an_animation_have_index_and_time(tmp_path, ending):
    file = save(tmp_path / f"a.{ending}", pages(0, 80, 160), duration=[100, 300, 100], lossless=True)
    assert seen(file) == [("#frame=0", 0), ("#frame=1", 80), ("#frame=2", 160)]
    frames = [item.frame for item in expand_sources(file)]
    assert [(frame.index, frame.seconds) for frame in frames] == [(0, 0.0), (1, 0.1), (2, pytest.approx(0.4))]
    assert [name for name, _ in seen(file, every=2)] == ["#frame=0", "#frame=2"]
    assert [name for name, _ in seen(file, fps=5)] == ["#frame=0", "#frame=2"]


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_a_picture_that_does_not_move_keeps_the_name_of_the_file(tmp_path, ending):
    assert seen(save(tmp_path / f"a.{ending}", pages(80), lossless=True)) == [("", 80)]


def test_frames_before_the_damage_are_kept(tmp_path):
    content = save(tmp_path / "a.webp", pages(0, 80, 160, 200), duration=100, lossless=True).read_bytes()
    (tmp_path / "bad.webp").write_bytes(content[:100])
    (bad,) = seen(tmp_path / "bad.webp")
    assert bad[0] == "" and bad[1]
    content = save(tmp_path / "a.gif", [noise(64, 64, seed=n) for n in range(4)], duration=100).read_bytes()
    (tmp_path / "cut.gif").write_bytes(content[: len(content) * 5 // 8])
    *good, (name, reason) = seen(tmp_path / "cut.gif")
    assert [each for each, _ in good] == ["#frame=0", "#frame=1"] and name == "#frame=2"
    assert "damaged or cut short" in reason
