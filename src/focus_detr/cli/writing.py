"""What `focus-detr predict` writes to its output folder: result files, pictures, the journal of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from focus_detr.cli.options import split_names
from focus_detr.cli.output import note
from focus_detr.cli.pictures import Pictures
from focus_detr.disk import explained_disk, only_run
from focus_detr.errors import FocusDetrError
from focus_detr.folders import unused_folder

if TYPE_CHECKING:
    from focus_detr.inference import Predictor
    from focus_detr.inference.journal import Journal
    from focus_detr.inference.writers import Result, ResultWriter

FOLDERS = ("yolo", "voc", "crops", "masks")
"""Formats that are a folder each, in the output folder and named alike."""

_FILES = {"coco": "detections.coco.json", "csv": "detections.csv", "json": "detections.jsonl"}
FORMATS = (*_FILES, *FOLDERS, "video")
WITH_IMAGES = frozenset(("yolo", "voc", "crops", "video"))
"""Formats that need the images themselves."""

_JOURNAL = "unfinished.jsonl"


def parse_formats(text: str) -> list[str]:
    """`"coco,csv"` to names of formats, each once."""
    formats = split_names(text) or []
    if not formats:
        raise FocusDetrError(f"--format {text!r}: names none; use any of {','.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise FocusDetrError(f"--format {name!r}: not known; use any of {','.join(FORMATS)}")
    if "video" in formats:
        from focus_detr.pictures.video import best_codec

        best_codec()  # says so where there is none
    return list(dict.fromkeys(formats))


def refuse_live(sources: list[str]) -> None:
    """Refuse to go on with what does not come again."""
    from focus_detr.inference.sources.files import source_entries
    from focus_detr.inference.sources.named import Series
    from focus_detr.inference.sources.options import SourceOptions

    for entry in source_entries(sources, SourceOptions()):
        if isinstance(entry, Series) and entry.live:
            raise live_refused(entry.name)


def live_source(result: Result) -> str | None:
    """The camera or stream that a result is of, if it is: of some addresses, only a frame says so."""
    from focus_detr.inference import Detections

    frame = result.frame if isinstance(result, Detections) else None
    return frame.video if frame is not None and frame.live else None


def live_refused(name: str) -> FocusDetrError:
    """Of `--resume`, with a source that does not come again."""
    return FocusDetrError(
        f"--resume: {name} is a camera or stream, whose frames do not come again; leave it out"
    )


def is_finished(output: Path, formats: list[str]) -> bool:
    """Whether a folder holds results of a run that needs no going on."""
    if (output / _JOURNAL).exists():
        return False
    places = [output / _FILES.get(name, name) for name in formats]
    if "video" in formats:
        places += output.glob("*.mp4")
    return any(place.is_file() or (place.is_dir() and any(place.iterdir())) for place in places)


def open_journal(output: Path, choices: Mapping[str, Any], batch_size: int, resume: bool) -> Journal:
    """What the run is to remember, and remembers of an earlier one that it goes on with (`--resume`)."""
    from focus_detr.inference.journal import Journal

    if (output / _JOURNAL).exists() and not resume:
        note(f"--output {output}: held an unfinished run, which --resume would have gone on with; begun anew")
    with explained_disk(output, "--output"):
        return Journal(output / _JOURNAL, choices, batch_size, resume=resume)


def check_folders(output: Path, formats: list[str]) -> None:
    """Refuse folders of formats that hold what an earlier run left, and perhaps somebody corrected."""
    for name in formats:
        if name in FOLDERS:
            unused_folder(output / name, "--output")


class Written:
    """Everything written of a run's results, as they come; closed by `with`.

    Left without an error, the run is done, and its journal goes.
    """

    def __init__(
        self,
        output: Path,
        formats: list[str],
        predictor: Predictor,
        pictures: Pictures,
        journal: Journal,
        *,
        scores: bool,
        resume: bool,
    ) -> None:
        self._output, self._pictures, self._journal = output, pictures, journal
        self._openers = _openers(output, predictor, pictures, scores, resume)
        self._formats = formats
        self._files = ExitStack()
        self._writers: list[ResultWriter] = []

    def __enter__(self) -> Self:
        with ExitStack() as begun, explained_disk(self._output, "--output"):
            begun.enter_context(only_run(self._output, "--output"))
            begun.enter_context(self._journal)
            self._writers = [begun.enter_context(self._openers[name]()) for name in self._formats]
            self._files = begun.pop_all()
        return self

    def add(self, result: Result) -> None:
        """Write a result everywhere, and remember that it is written."""
        from focus_detr.inference import Detections

        with explained_disk(self._output, "--output", "go on with --resume"):
            for writer in self._writers:
                writer.add(result)
            if isinstance(result, Detections):
                self._pictures.write(result)
                if result.frame is not None and result.frame.live:
                    return  # it does not come again, and a journal of such would grow for ever
            self._journal.add(result)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with explained_disk(self._output, "--output"):
            with self._files:
                if kind is not None:
                    with suppress(FocusDetrError):  # the error that ends this is what matters
                        for result in self._journal.left():
                            self.add(result)
            if kind is None:
                self._pictures.finish()
                self._journal.finish()
        for line in chain.from_iterable(getattr(writer, "said", ()) for writer in self._writers):
            note(line)


def _openers(
    output: Path, predictor: Predictor, pictures: Pictures, scores: bool, resume: bool
) -> dict[str, Callable[[], ResultWriter]]:
    from focus_detr.inference.crops import CropWriter
    from focus_detr.inference.labels import VocWriter, YoloWriter
    from focus_detr.inference.mask_pictures import MaskWriter
    from focus_detr.inference.writers import CocoWriter, CsvWriter, JsonLinesWriter
    from focus_detr.pictures.video import VideoWriter

    category_ids = getattr(getattr(predictor.model, "config", None), "category_ids", None)
    return {
        "coco": lambda: CocoWriter(output / _FILES["coco"], category_ids),
        "csv": lambda: CsvWriter(output / _FILES["csv"]),
        "json": lambda: JsonLinesWriter(output / _FILES["json"]),
        "yolo": lambda: YoloWriter(output / "yolo", scores, resume=resume),
        "voc": lambda: VocWriter(output / "voc", resume=resume),
        "video": lambda: VideoWriter(output, draw=partial(pictures.drawn, legend=False)),
        "crops": lambda: CropWriter(output / "crops", resume=resume),
        "masks": lambda: MaskWriter(output / "masks", resume=resume),
    }
