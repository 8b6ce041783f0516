"""focus-detr predict: find objects in pictures; draw, count and write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from focus_detr.cli.choices import classes_of, parse_thresholds, threshold_of
from focus_detr.cli.options import (
    BudgetOption,
    DeadlineOption,
    DeployOption,
    DeviceOption,
    ModelArgument,
    OverlapOption,
    TileOption,
    TrustOption,
    parse_tile,
    split_names,
)
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.cli.pictures import Pictures, keep_sources
from focus_detr.errors import FocusDetrError
from focus_detr.folders import unused_folder, writable_folder
from focus_detr.zoo.resolve import resolve_model

if TYPE_CHECKING:
    from focus_detr.inference import Predictor
    from focus_detr.inference.writers import Result, ResultWriter

_FOLDERS = ("yolo", "voc", "crops")
"""Formats that are a folder each, in the output folder and named alike."""

_FORMATS = ("coco", "csv", "json", *_FOLDERS)


def predict(
    model: ModelArgument,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", help="Pictures, videos, archives, folders, glob patterns or URLs."),
    ],
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCORE|CLASS=SCORE",
            help="Lowest score reported, 0 to 1, of all classes or of one; may be given several times. The "
            "model's own when not given.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Only these classes, by name: a,b,c. With a=x, class a is reported as x; several of one "
            "name are merged."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures computed at once; 4 when not given, 1 with a deadline."),
    ] = None,
    budget: BudgetOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    deadline: DeadlineOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for annotated pictures and result files.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Results in the output folder, separated by commas: the files coco, csv, json; the folders "
            "yolo, voc (pictures and labels, to correct or learn from), crops. Default: coco,csv"
        ),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores", help="Write scores to the labels of yolo, too, which training then refuses."
        ),
    ] = False,
    images: Annotated[bool, typer.Option(help="Write annotated pictures to the output folder.")] = True,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Write pictures of where the model looked, too.")
    ] = False,
    every: Annotated[int, typer.Option(metavar="N", min=1, help="Of videos, look at every N-th frame.")] = 1,
    fps: Annotated[
        float | None, typer.Option(help="Of videos, look at this many frames a second at the most.")
    ] = None,
    max_megapixels: Annotated[
        int, typer.Option(min=1, help="Pictures of more are passed over, before they fill the memory.")
    ] = 200,
    private_redirects: Annotated[
        bool, typer.Option("--private-redirects", help="Let servers redirect into private networks.")
    ] = False,
    device: DeviceOption = None,
    deploy: DeployOption = False,
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Find objects in pictures; draw and count them.

    A picture that cannot be read is reported and passed over; exit code 1 means that none could be read.
    Result files are whole after every picture: interrupted (exit code 130, or 143 when terminated), they hold
    what was found so far.
    """
    thresholds = parse_thresholds(threshold or [])
    formats = _parse_formats("coco,csv" if format is None else format)
    if scores and "yolo" not in formats:
        raise FocusDetrError(
            "--scores: is of yolo alone; the other formats hold scores anyway; add --format yolo"
        )
    for option, given in (("--heatmap", heatmap), ("--format", format)):
        if given and output is None:
            raise FocusDetrError(f"{option}: needs a folder to write to; add --output DIR")
    if heatmap and tile is not None:
        raise FocusDetrError("--heatmap: shows one look at the whole picture; leave out --tile")
    _check_tile(tile, overlap)
    if output is not None:
        output = writable_folder(output, "--output")
        if images or heatmap:
            keep_sources(sources, output)
        for name in formats:
            if name in _FOLDERS:
                unused_folder(output / name, "--output")

    folder = resolve_model(model)  # a wrong name is said before torch is loaded

    from focus_detr.inference import Detections, Predictor

    predictor = Predictor.from_pretrained(folder, device=device, deploy=deploy, trust_plugins=trust_plugins)
    stream = predictor.predict(
        sources,
        threshold=threshold_of(thresholds, predictor.class_names),
        classes=classes_of(classes, predictor.class_names),
        batch_size=batch_size or (4 if deadline is None else 1),
        budget=budget,
        tile=parse_tile(tile),
        overlap=overlap,
        deadline=deadline,
        progress=not json,
        keep_images=output is not None and (images or heatmap or not set(_FOLDERS).isdisjoint(formats)),
        every=every,
        fps=fps,
        max_pixels=max_megapixels * 1_000_000,
        private_redirects=private_redirects,
    )
    summary = _Summary()
    found: list[dict[str, Any]] = []  # what --json prints
    try:
        with ExitStack() as files:
            writers = [] if output is None else _open_files(output, formats, predictor, files, scores)
            pictures = Pictures(output, predictor, images, heatmap, budget) if output is not None else None
            for result in stream:
                with _explained_disk(output):
                    for writer in writers:
                        writer.add(result)
                    if pictures is not None and isinstance(result, Detections):
                        pictures.write(result)
                summary.add(result)
                if json:
                    found.append(result.to_dict())
    except (KeyboardInterrupt, SystemExit):
        kept = "" if output is None else f"; what was found in them is in {output}"
        note(f"interrupted after {summary.images} images{kept}")
        raise
    finally:
        if json:
            print_json(found)
    if not json:
        summary.print(output)
    if not summary.read:
        raise typer.Exit(1)


def _check_tile(tile: str | None, overlap: float | None) -> None:
    from focus_detr.inference.tiles import Tiling

    Tiling.of(parse_tile(tile), overlap)


class _Summary:
    """Counts of what was found, taken as results go by: thousands of them need not be kept."""

    def __init__(self) -> None:
        self.images = self.read = 0
        self._objects: Counter[str] = Counter()
        self._seen_in: Counter[str] = Counter()
        self._budgets: Counter[float] = Counter()
        self._seconds: list[float] = []

    def add(self, result: Result) -> None:
        from focus_detr.inference import Detections

        self.images += 1
        if isinstance(result, Detections):
            self.read += 1
            self._objects.update(result.counts())
            self._seen_in.update(result.counts().keys())
            if result.budget is not None:
                self._budgets[result.budget] += 1
            if result.latency is not None:
                self._seconds.append(result.latency)

    def print(self, output: Path | None) -> None:
        from focus_detr.evaluation.tables import table

        rows = [(name, count, self._seen_in[name]) for name, count in self._objects.most_common()]
        say(table(("class", "objects", "images"), [*rows, ("all", self._objects.total(), self.read)]))
        if self.read < self.images:
            note(f"{self.images - self.read} of {self.images} images could not be read and were passed over.")
        if self._budgets:
            mean = sum(budget * count for budget, count in self._budgets.items()) / self._budgets.total()
            least, most = min(self._budgets), max(self._budgets)
            say(f"Budgets chosen: {mean:.2f} on average, from {least:g} to {most:g}.")
        if self._seconds:
            say(f"Time of a picture: {1e3 * median(self._seconds):.1f} ms, the median.")
        if output is not None:
            say(f"Written to {output}")


def _parse_formats(text: str) -> list[str]:
    formats = split_names(text) or []
    if not formats:
        raise FocusDetrError(f"--format {text!r}: names none; use any of {','.join(_FORMATS)}")
    for name in formats:
        if name not in _FORMATS:
            raise FocusDetrError(f"--format {name!r}: not known; use any of {','.join(_FORMATS)}")
    return formats


def _open_files(
    output: Path, formats: list[str], predictor: Predictor, files: ExitStack, scores: bool
) -> list[ResultWriter]:
    from focus_detr.inference.crops import CropWriter
    from focus_detr.inference.labels import VocWriter, YoloWriter
    from focus_detr.inference.writers import CocoWriter, CsvWriter, JsonLinesWriter

    category_ids = getattr(getattr(predictor.model, "config", None), "category_ids", None)
    open_file: dict[str, Callable[[], ResultWriter]] = {
        "coco": lambda: CocoWriter(output / "detections.coco.json", category_ids),
        "csv": lambda: CsvWriter(output / "detections.csv"),
        "json": lambda: JsonLinesWriter(output / "detections.jsonl"),
        "yolo": lambda: YoloWriter(output / "yolo", scores),
        "voc": lambda: VocWriter(output / "voc"),
        "crops": lambda: CropWriter(output / "crops"),
    }
    with _explained_disk(output):
        output.mkdir(parents=True, exist_ok=True)
        return [files.enter_context(open_file[name]()) for name in dict.fromkeys(formats)]


@contextmanager
def _explained_disk(output: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # no space, no permission, a disk that went away
        raise FocusDetrError(f"--output {output}: cannot be written to ({error})") from error
