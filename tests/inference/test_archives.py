"""Archives as sources: their pictures, and nothing that an archive made to do harm wants."""

import io
import os
import tarfile
import zipfile

import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, expand_sources
from helpers.fuzzing_archives import archive_round
from helpers.videos import write_video


def picture(level=80, form="PNG", size=(8, 6)):
    stream = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(stream, form)
    return stream.getvalue()


def write(file, members):
    """``members`` by name; what is no bytes is added as it is."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return file
    with tarfile.open(
        file, "w" if file.suffix == ".tar" else f"w:{file.suffix[1:].replace('tgz', 'gz')}"
    ) as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file


FORMS = ["a.zip", "a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz"]


def seen(file, **options):
    found = {}
    for item in expand_sources(file, **options):
        image = item if isinstance(item, BadImage) else item.load()
        name = image.path if isinstance(image, BadImage) else item.name
        found[name.removeprefix(str(file))] = (
            image.reason if isinstance(image, BadImage) else image.getpixel((0, 0))[0]
        )
    return found


@pytest.mark.parametrize("form", FORMS)
def test_pictures_of_an_archive_are_named_after_both(tmp_path, form):
    members = {
        "b/pic.jpg": picture(40, "JPEG"), "b/pic.png": picture(60), "a.png": picture(20), "bad.png": b"none",
        "notes.txt": b"words", "__MACOSX/pic.jpg": b"", "b/.hidden.png": picture(), "inner.zip": b"PK",
    }  # fmt: skip
    found = seen(write(tmp_path / form, members))
    assert set(found) == {"/a.png", "/b/pic.jpg", "/b/pic.png", "/bad.png"}
    assert (found["/a.png"], found["/b/pic.jpg"], found["/b/pic.png"]) == (20, 40, 60)
    assert "image" in found["/bad.png"]
    assert os.listdir(tmp_path) == [form]


def test_a_zip_file_s_pictures_come_by_name_and_can_be_read_later(tmp_path):
    write(tmp_path / "a.zip", {"c.png": picture(3), "a.png": picture(1), "b.png": picture(2)})
    items = list(expand_sources(tmp_path / "a.zip"))
    assert [item.name.rpartition("/")[2] for item in items] == ["a.png", "b.png", "c.png"]
    assert [item.load().getpixel((0, 0))[0] for item in reversed(items)] == [3, 2, 1]


def test_pages_and_frames_in_an_archive(tmp_path):
    pytest.importorskip("av")
    scan, clip = io.BytesIO(), io.BytesIO()
    Image.new("L", (8, 6), 10).save(scan, "TIFF", save_all=True, append_images=[Image.new("L", (8, 6), 20)])
    write_video(clip, frames=4, format="mp4")
    members = {"in/clip.mp4": clip.getvalue(), "in/scan.tif": scan.getvalue()}
    for form in ("a.zip", "a.tar"):
        assert list(seen(write(tmp_path / form, members), every=3)) == [
            "/in/clip.mp4#frame=0", "/in/clip.mp4#frame=3", "/in/scan.tif#page=1", "/in/scan.tif#page=2",
        ]  # fmt: skip


def test_patterns_find_archives_and_folders_leave_them(tmp_path):
    write(tmp_path / "a.zip", {"a.png": picture()})
    (tmp_path / "b.png").write_bytes(picture())
    assert len(list(expand_sources(str(tmp_path / "*")))) == 2
    assert [item.name for item in expand_sources(tmp_path)] == [str(tmp_path / "b.png")]


@pytest.mark.parametrize("form", ["a.zip", "a.tar"])
@pytest.mark.parametrize(
    "name", ["../out.png", "/out.png", "x/../../out.png", "x\\..\\..\\out.png", "C:\\out.png"]
)
def test_a_member_that_leads_out_is_said_and_not_read(tmp_path, form, name):
    found = seen(write(tmp_path / form, {name: picture(), "z.png": picture(9)}))
    assert "leads out of the archive" in found.pop(f"/{name}") and found == {"/z.png": 9}


def test_links_and_devices_are_left_out(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture())
    link, hard, device = (tarfile.TarInfo(f"{name}.png") for name in ("link", "hard", "device"))
    link.type, link.linkname = tarfile.SYMTYPE, str(secret)
    hard.type, hard.linkname = tarfile.LNKTYPE, str(secret)
    device.type = tarfile.CHRTYPE
    write(tmp_path / "a.tar", {"link": link, "hard": hard, "device": device, "z.png": picture(9)})
    assert seen(tmp_path / "a.tar") == {"/z.png": 9}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, str(secret))
        archive.writestr("z.png", picture(9))
    assert seen(tmp_path / "a.zip") == {"/z.png": 9}


@pytest.mark.parametrize("form", FORMS)
def test_a_member_above_the_limit_is_passed_over(tmp_path, form):
    members = {"a.png": picture(5), "large.bmp": os.urandom(300_000), "z.png": picture(9)}
    found = seen(write(tmp_path / form, members), max_megabytes=0.2)
    assert (found["/a.png"], found["/z.png"]) == (5, 9) and "limit of 0.2 MB" in found["/large.bmp"]


@pytest.mark.parametrize("form", ["a.zip", "a.tgz", "a.tar.xz"])
def test_an_archive_that_unpacks_to_hundreds_of_times_its_size_is_left(tmp_path, form):
    members = {f"{number}.bmp": bytes(1_000_000) for number in range(8)}
    *_, (name, reason) = seen(write(tmp_path / form, members), max_megabytes=1.5).items()
    assert name == "" and "unpacks to more than 200 times its size" in reason


def test_a_header_of_megabytes_is_not_read(tmp_path):
    """Names and the like of a tar file would be read into memory whole, whatever their length."""
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, 2**32
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        file.seek(2**22)
        file.write(b"\0")
    assert "header of 4294967296 bytes" in seen(tmp_path / "a.tar")[""]


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_archive_gives_what_is_there_and_says_so(tmp_path, form):
    members = {f"{number}.png": picture(number) + os.urandom(20_000) for number in range(4)}
    content = write(tmp_path / form, members).read_bytes()
    (tmp_path / f"cut.{form}").write_bytes(content[: len(content) * 5 // 8])
    found = seen(tmp_path / f"cut.{form}")
    assert any(word in found.pop("") for word in ("damaged", "cut short"))
    if form in ("a.tar", "a.tgz"):
        assert {"/0.png": 0, "/1.png": 1}.items() <= found.items()
    (tmp_path / f"text.{form}").write_text("not an archive at all")
    assert list(seen(tmp_path / f"text.{form}")) == [""]


def test_a_tar_file_cut_between_two_members_says_so(tmp_path):
    content = write(tmp_path / "a.tar", {"0.png": picture(0), "1.png": picture(1)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[:1024])
    assert set(seen(tmp_path / "cut.tar")) == {"/0.png", ""}
    assert set(seen(tmp_path / "a.tar")) == {"/0.png", "/1.png"}


def test_an_encrypted_member_is_said(tmp_path):
    content = bytearray(write(tmp_path / "a.zip", {"a.png": picture(), "z.png": picture(9)}).read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    found = seen(tmp_path / "a.zip")
    assert found["/a.png"].startswith("encrypted; unpack") and found["/z.png"] == 9


def test_an_archive_without_pictures_is_said(tmp_path):
    write(tmp_path / "a.zip", {"notes.txt": b"words"})
    with pytest.raises(FocusDetrError, match="a.zip: .*holds no image"):
        expand_sources(tmp_path / "a.zip")


def test_broken_archives_are_read_or_refused():
    """`make fuzz MINUTES=30` looks longer, at others each time."""
    for seed in range(300):
        failure = archive_round(seed)
        assert failure is None, f"seed {seed}:\n{failure}"
