"""Runs of `focus_detr.batch` in tests: pictures with names, and what a finished run holds."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from focus_detr.batch.finishing import finish
from focus_detr.batch.inputs import Listing
from focus_detr.batch.places import Place
from focus_detr.batch.run import begun, run_here
from focus_detr.batch.working import Work
from focus_detr.inference.predictor import Predictor
from helpers.fake_detector import FakeModel, picture, plain_processor


def content(image: Image.Image | None = None) -> bytes:
    """A picture's file, with a red rectangle unless told otherwise."""
    stream = io.BytesIO()
    (image or picture(red=(4, 4, 20, 12))).save(stream, "PNG")
    return stream.getvalue()


def write_pictures(folder: Path, count: int) -> list[str]:
    """So many pictures, alike, with names in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    one, names = content(), []
    for number in range(count):
        (folder / f"{number:04d}.png").write_bytes(one)
        names.append(str(folder / f"{number:04d}.png"))
    return names


def write_shard(file: Path, members: dict[str, bytes]) -> None:
    """A WebDataset shard."""
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))


def fake_predictor() -> Predictor:
    return Predictor(FakeModel(), plain_processor())


def fake_work(output: str | Path, **options: Any) -> Work:
    """A run's work for the fake predictor; the named model is only what its files are compared by."""
    return Work(Place.of(output), "blood-cells", **options)


def run(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    block_size: int = 2,
    column: str | None = None,
    formats: Sequence[str] = ("parquet",),
    choices: dict[str, Any] | None = None,
    predictor: Predictor | None = None,
    **options: Any,
) -> dict[str, Any]:
    """A whole run in this process; returns its summary."""
    work = fake_work(output, **options)
    listing = Listing([str(each) for each in inputs], block_size, column)
    with begun(listing, work, formats, choices or {}) as started:
        for _ in run_here(work, started, predictor or fake_predictor()):
            pass
        return finish(started.ledger, formats)


def results(output: Path) -> list[dict[str, Any]]:
    """The rows of the Parquet files of a finished run, in order."""
    import pyarrow.parquet as parquet

    files = sorted((output / "detections").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def paths(output: Path) -> list[str]:
    return [row["path"] for row in results(output)]


def letters(output: Path) -> dict[str, str]:
    """Dead letters of a finished run: kind by path."""
    import pyarrow.parquet as parquet

    rows = parquet.read_table(output / "dead-letters.parquet").to_pylist()
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row["kind"] for row in rows}


def json_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
