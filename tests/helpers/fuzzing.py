"""Small data sets, a few things in them broken at random: reading may refuse, but never fail or hang.

A round is made of its seed alone: `fuzz_round(folder, seed)` does again what a failed run reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import struct
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from focus_detr.data import list_splits, load_dataset
from focus_detr.data.coverage import box_coverage
from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.suspicions import same_pictures, suspicions
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import coco_content, voc_xml, write_coco, write_image, write_voc, write_yolo

LONGEST_SECONDS = 5.0

_NASTY_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 1e400, -1e400, float("nan"), 2**63, 10**400),
    *(
        "",
        " ",
        "0",
        "nan",
        "1e999",
        "a\0b",
        "\ud800",
        "\udcff.png",
        "x" * 5000,
        "\x1b[2J",
        "\n",
        "{count}",
        "%s",
    ),
    *("../../../../../../etc/passwd", "/", "/proc", "C:\\a\\b.png", "file:///", "~", "<<"),
    *([], [[]], {}, [1], {"a": 1}, [0, 0, 1, 1], ["1", "2", "3", "4"]),
]
_NASTY_BYTES = [
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\x80\x81",
        b"\xe8",
        b"\r",
        b"\n\n",
        b"1e999",
        b"nan",
        b"]]>",
    ),
    *(b"[" * 5000, b'{"a":' * 3000, b"<a>" * 5000, b"9" * 5000, b"- " * 5000),
    *(b"&a [*a]", b"<<: *a", b"!!python/object:os.system", b"names:", b"train: /", b"path: /proc"),
    *(b"<!ENTITY a 'b'>", b"encoding='base64'", b"encoding='utf-7'", b"encoding='gb2312'"),
]


class HangError(BaseException):
    """Reading took longer than `LONGEST_SECONDS`; no handler for errors stops it."""


def fuzz_round(folder: Path, seed: int) -> str | None:
    """Breaks a data set in `folder`, which is empty, and reads it; the traceback of what should not come."""
    chance = random.Random(seed)
    root = chance.choice(_DATA_SETS)(folder / "set")
    for _ in range(chance.randint(1, 3)):
        files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        if files:
            _break(chance.choice(files), chance)
    try:
        with time_limit(), warnings.catch_warnings(action="ignore"):
            _use(root)
    except FocusDetrError as error:
        str(error)
    except (Exception, HangError):
        return "\n".join(line[:200] for line in traceback.format_exc().splitlines())
    return None


def fuzz(seeds: Iterator[int], keep_going: Callable[[], bool]) -> Iterator[tuple[int, str | None]]:
    """(seed, traceback or None) of rounds as long as `keep_going` says so."""
    for seed in seeds:
        if not keep_going():
            return
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            yield seed, fuzz_round(folder, seed)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _use(root: Path) -> None:
    """What `check`, training and evaluation do with a data set before a model is there."""
    datasets: dict[str, DetectionDataset] = {}
    for split in list_splits(root):
        with contextlib.suppress(FocusDetrError):
            datasets[split] = load_dataset(root, split, on_problem="ignore", check_images="decode")
        with contextlib.suppress(FocusDetrError):
            load_dataset(root, split, on_problem="ignore", check_images="none", classes=["cat", "dog"])
    repeated = same_pictures(datasets)
    for split, dataset in datasets.items():
        for problem in [*dataset.problems, *suspicions(dataset), *repeated[split]]:
            assert str(problem).isprintable(), problem
        dataset.summary().encode()
        json.dumps(dataset.to_coco())
        assert 0 <= (box_coverage(dataset.records) or 0) <= 1
        with contextlib.suppress(FocusDetrError):
            dataset[0]


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"longer than {LONGEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _coco(root: Path) -> Path:
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[5, 6, 15, 6, 15, 18]]
    write_coco(root / "annotations" / "instances_train.json", root / "train", content)
    write_coco(root / "val" / "_annotations.coco.json", root / "val")
    return root


def _coco_of_masks(root: Path) -> Path:
    """Masks and polygons instead of boxes, ids as text, a picture listed twice, Windows' paths."""
    content = coco_content()
    masks = (
        {"size": [30, 40], "counts": [605, 20, 575]},
        {"size": [30, 40], "counts": "PPYg0"},
        [[5, 6], [9, 9]],
    )
    for entry, mask in zip(content["annotations"], masks, strict=False):
        entry |= {"bbox": [], "segmentation": mask, "image_id": str(entry["image_id"])}
    for entry in content["images"]:
        entry["id"] = str(entry["id"])
    write_coco(root / "result.json", root / "images", content)
    content["images"].append({**content["images"][0], "id": "99"})
    for entry in content["images"]:
        entry["file_name"] = f"D:\\data\\images\\{entry['file_name']}"
    (root / "result.json").write_text(json.dumps(content))
    return root


def _yolo(root: Path) -> Path:
    write_yolo(
        root,
        "path: .\ntrain: images/train\nval: val.txt\nnc: 2\nnames:\n  0: cat\n  1: dog\nkpt_shape: [2, 3]\n",
    )
    (root / "val.txt").write_text("./images/val/2.png\n")
    return root


def _yolo_of_people(root: Path) -> Path:
    """Paths of elsewhere, words that yaml takes for others, rows of spreadsheets, comments."""
    write_yolo(
        root,
        "path: /content/set\ntrain: ../set/images/train\nval: [images\\val, ./images/val/2.png]\ntest: ~\n"
        "nc: '2'\nnames: {0: 2024-01-01, 1: 'null'}\n",
    )
    rows = ("1;0,25;0,4;0,25;0,4", "# dogs", "1, .5, .5, .1, .1", "0 .1 .1 .2 .1 .2 .2", "1 .2 .2 .1 .1 .9")
    (root / "labels" / "train" / "1.txt").write_text("\r\n".join(rows), newline="")
    return root


def _yolo_without_yaml(root: Path) -> Path:
    for stem in ("0", "1"):
        write_image(root / f"{stem}.png", seed=int(stem))
        (root / f"{stem}.txt").write_text("0 .5 .5 .2 .2\n1 .1 .1 .3 .1 .3 .3\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "train.txt").write_text("data/0.png\ndata/1.png\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/classes.txt\n")
    return root


def _voc(root: Path) -> Path:
    write_voc(root)
    declared = '<?xml version="1.0" encoding="utf-8"?>' + voc_xml(
        [("dog", 6, 7, 15, 18), ("cat", 2, 2, 9, 9)]
    )
    (root / "Annotations" / "a.xml").write_text(declared)
    (root / "ImageSets" / "Main" / "dog_train.txt").write_text("a  1\nb -1\n")
    return root


def _voc_of_tools(root: Path) -> Path:
    """Paddle's lists, LabelMe's polygons and deleted objects, rotated boxes, a file that is none."""
    write_voc(root)
    polygon = "<polygon><pt><x>5</x><y>6</y></pt><pt><x>9</x><y>6</y></pt><pt><x>9</x><y>9</y></pt></polygon>"
    rotated = "<robndbox><cx>9</cx><cy>9</cy><w>4</w><h>2</h><angle>0.5</angle></robndbox>"
    objects = "".join(
        f"<Object><name>dog</name><deleted>{deleted}</deleted>{shape}</Object>"
        for deleted, shape in enumerate((polygon, rotated))
    )
    declared = f"<?xml version='1.0' encoding='GB2312'?><annotation>{objects}</annotation>"
    (root / "Annotations" / "a.xml").write_text(declared)
    (root / "Annotations" / "README.xml").write_text("<html></html>")
    (root / "ImageSets" / "Main" / "train.txt").write_text("JPEGImages/a.jpg Annotations/a.xml\nb 1\n")
    return root


_DATA_SETS = (_coco, _coco_of_masks, _yolo, _yolo_of_people, _yolo_without_yaml, _voc, _voc_of_tools)


def _break(file: Path, chance: random.Random) -> None:
    breakers: list[Callable[[Path, random.Random], None]] = [
        _break_bytes,
        _break_bytes,
        _break_words,
        _break_place,
    ]
    if file.suffix == ".json":
        breakers += [_break_json] * 6
    if file.suffix in (".png", ".jpg"):
        breakers += [_break_picture] * 2
    chance.choice(breakers)(file, chance)


def _break_bytes(file: Path, chance: random.Random) -> None:
    """Cuts, repeats, changes or inserts anywhere."""
    content = file.read_bytes()
    start = chance.randint(0, len(content))
    end = min(len(content), start + chance.choice((0, 1, 4, 30, len(content))))
    middle = chance.choice(
        (
            b"",
            content[start:end] * chance.choice((2, 50)),
            bytes(chance.randrange(256) for _ in content[start:end][:100]),
            chance.choice(_NASTY_BYTES),
        )
    )
    file.write_bytes(content[:start] + middle + content[end:])


def _break_words(file: Path, chance: random.Random) -> None:
    """Puts another word in the place of one, or writes the text in another encoding."""
    text = file.read_bytes().decode("utf-8", "replace")
    words = [word for word in text.replace("<", " <").replace(">", "> ").split() if word]
    if words and chance.random() < 0.8:
        text = text.replace(chance.choice(words), str(chance.choice(_NASTY_VALUES)), chance.choice((1, -1)))
    encoding = chance.choice(("utf-8", "utf-8", "utf-16", "utf-8-sig", "gb18030", "cp500"))
    file.write_bytes(text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace"))


def _break_json(file: Path, chance: random.Random) -> None:
    """Puts another value in the place of any in the tree, or under another key."""
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return _break_bytes(file, chance)
    place = content
    while isinstance(place, dict | list) and place:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.15:
            action = chance.randrange(4)
            if action == 0:
                del place[key]
            elif action == 1 and isinstance(place, list):
                place.append(place[key])
            else:
                place[key] = chance.choice(_NASTY_VALUES)
            break
        place = inner
    file.write_text(json.dumps(content))


def _break_place(file: Path, chance: random.Random) -> None:
    """Puts something else than a file in its place, or moves it."""
    other = chance.choice(sorted(file.parent.iterdir()))
    action = chance.randrange(8)
    if action == 0 and other.is_file():
        shutil.copyfile(other, file) if other != file else None
    elif action == 1:
        os.rename(file, os.fsencode(file.parent) + b"/\xe9" + os.fsencode(file.name))
    else:
        file.unlink()
        if action == 2:
            file.mkdir()
        elif action == 3:
            file.symlink_to(
                chance.choice(("gone", "/", "/dev/zero", file.name, ".", "..", "/proc/self/environ"))
            )
        elif action == 4:
            os.mkfifo(file)
        elif action == 5:
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
        elif action == 6:
            file.touch()


def _break_picture(file: Path, chance: random.Random) -> None:
    """Writes other sizes into the header, or another format's first bytes."""
    content = bytearray(file.read_bytes())
    if content[:4] == b"\x89PNG" and len(content) > 33 and chance.random() < 0.7:
        struct.pack_into(
            ">II", content, 16, chance.choice((0, 1, 13_300, 2**31)), chance.choice((0, 1, 39, 2**31 - 1))
        )
    else:
        start = chance.choice(
            (b"II*\0\x08\0\0\0", b"GIF89a\xff\xff\xff\xff", b"\xff\xd8\xff\xe1\xff\xff", b"BM", b"RIFF")
        )
        content[: len(start)] = start
    file.write_bytes(content)
