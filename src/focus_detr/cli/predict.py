"""focus-detr predict: find objects in pictures; draw, count and write them."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from focus_detr.cli.behind import Behind
from focus_detr.cli.choices import classes_of, parse_thresholds, threshold_of
from focus_detr.cli.counting import Counting, CountLineOption, CountZoneOption
from focus_detr.cli.options import (
    BudgetOption,
    ClassesOption,
    DeadlineOption,
    DecoderLayersOption,
    DeployOption,
    DeviceOption,
    ModelArgument,
    OverlapOption,
    SettingOption,
    ThresholdOption,
    TileOption,
    TrustOption,
    parse_budget,
    parse_tile,
)
from focus_detr.cli.output import JsonFlag, JsonStream, note, print_json, say
from focus_detr.cli.pictures import Pictures, keep_sources
from focus_detr.cli.summary import Summary
from focus_detr.cli.writing import (
    WITH_IMAGES,
    Written,
    check_folders,
    is_finished,
    live_refused,
    live_source,
    open_journal,
    parse_formats,
    refuse_live,
)
from focus_detr.errors import FocusDetrError
from focus_detr.folders import writable_folder
from focus_detr.structures.budget import AUTO
from focus_detr.zoo.resolve import resolve_model

if TYPE_CHECKING:
    from focus_detr.inference.writers import Result

_CHOICES = frozenset(
    "model threshold classes budget decoder_layers setting tile overlap deadline format scores images "
    "heatmap every fps track detect_every steady max_megapixels deploy".split()
)
"""What a run that goes on must have asked for alike."""


def predict(
    model: ModelArgument,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Pictures, videos, archives, folders, glob patterns, URLs, cameras (camera:0), streams.",
        ),
    ],
    threshold: ThresholdOption = None,
    classes: ClassesOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pictures computed at once; 4 when not given, 1 with a deadline or --budget auto.",
        ),
    ] = None,
    budget: BudgetOption = None,
    decoder_layers: DecoderLayersOption = None,
    setting: SettingOption = None,
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
            "yolo, voc (pictures and labels, to correct or learn from), crops, masks (numbers of objects as "
            "pixels); video, for frames to be drawn to. Default: coco,csv"
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
    every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Of videos and streams, look at every N-th frame.")
    ] = 1,
    fps: Annotated[
        float | None,
        typer.Option(help="Of videos and streams, look at this many frames a second at the most."),
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="Of videos, give objects numbers that stay from frame to frame.")
    ] = False,
    detect_every: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="With --track, detect every N-th frame; between, boxes move as they did."
        ),
    ] = 1,
    steady: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of videos and streams, the share of a token's rank that the frames before have, 0 to 1.",
        ),
    ] = 0.0,
    count_line: CountLineOption = None,
    count_zone: CountZoneOption = None,
    max_megapixels: Annotated[
        int, typer.Option(min=1, help="Pictures of more are passed over, before they fill the memory.")
    ] = 200,
    private_redirects: Annotated[
        bool, typer.Option("--private-redirects", help="Let servers redirect into private networks.")
    ] = False,
    device: DeviceOption = None,
    deploy: DeployOption = False,
    trust_plugins: TrustOption = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the interrupted run in the output folder."),
    ] = False,
    json: JsonFlag = False,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json-lines", help="Print JSON on stdout, an image a line as they come, and nothing else there."
        ),
    ] = False,
) -> None:
    """Find objects in pictures; draw and count them.

    A picture that cannot be read is reported and passed over; exit code 1 means that none could be read.
    Result files are whole after every picture: interrupted (exit code 130, or 143 when terminated), they hold
    what was found so far, and --resume goes on from there.
    """
    choices = {f"--{name.replace('_', '-')}": value for name, value in locals().items() if name in _CHOICES}
    thresholds = parse_thresholds(threshold or [])
    formats = parse_formats("coco,csv" if format is None else format)
    filmed = "video" in formats
    if scores and "yolo" not in formats:
        raise FocusDetrError(
            "--scores: is of yolo alone; the other formats hold scores anyway; add --format yolo"
        )
    for option, given in (("--heatmap", heatmap), ("--format", format), ("--resume", resume)):
        if given and output is None:
            raise FocusDetrError(f"{option}: needs a folder to write to; add --output DIR")
    if json and json_lines:
        raise FocusDetrError("--json, --json-lines: say the same in two forms; leave out one")
    if heatmap and tile is not None:
        raise FocusDetrError("--heatmap: shows one look at the whole picture; leave out --tile")
    _check_tile(tile, overlap)
    _check_tracking(track, detect_every, steady, resume)
    counting = Counting(count_line or [], count_zone or [], track)
    if output is not None:
        output = writable_folder(output, "--output")
        if images or heatmap or filmed:
            keep_sources(sources, output)
        if resume and is_finished(output, formats):
            note(f"--output {output}: holds a run that is finished; left as it is")
            if json:
                print_json([])
            return
        if resume:
            refuse_live(sources)
        else:
            check_folders(output, formats)
    share = parse_budget(budget)
    batch_size = batch_size or (1 if deadline is not None or share == AUTO else 4)
    journal = None if output is None else open_journal(output, choices, 1 if tile else batch_size, resume)

    folder = resolve_model(model)  # a wrong name is said before torch is loaded

    from focus_detr.inference import Predictor
    from focus_detr.inference.closest import at_setting

    predictor = Predictor.from_pretrained(
        folder, device=device, deploy=deploy, trust_plugins=trust_plugins, bare=True
    )
    predictor = at_setting(predictor, setting, deadline)
    if "masks" in formats and not predictor.gives_masks:
        raise FocusDetrError(f"--format masks: {model} gives boxes alone; train one with --task segment")
    quiet = json or json_lines
    stream = predictor.predict(
        sources,
        threshold=threshold_of(thresholds, predictor.class_names),
        classes=classes_of(classes, predictor.class_names),
        batch_size=batch_size,
        budget=share,
        decoder_layers=decoder_layers,
        tile=parse_tile(tile),
        overlap=overlap,
        deadline=deadline,
        track=track,
        detect_every=detect_every,
        steady=steady,
        progress=not quiet,
        keep_images=output is not None and (images or heatmap or not WITH_IMAGES.isdisjoint(formats)),
        known=None if journal is None else journal.known,
        every=every,
        fps=fps,
        max_pixels=max_megapixels * 1_000_000,
        private_redirects=private_redirects,
    )
    summary = Summary()
    goes_on = output is not None and not track and not steady
    try:
        with ExitStack() as stack:
            printed = stack.enter_context(JsonStream(json_lines)) if quiet else None
            written = None
            if output is not None and journal is not None:
                pictures = Pictures(output, predictor, images, heatmap, share, counting.counts, filmed)
                files = Written(output, formats, predictor, pictures, journal, scores=scores, resume=resume)
                written = stack.enter_context(files)

            def take(result: Result) -> None:
                result = counting.add(result)
                if written is not None:
                    written.add(result)
                summary.add(result)
                if printed is not None:
                    printed.add(result.to_dict())

            with ExitStack() as soon:
                soon.enter_context(closing(stream))
                # What is not drawn or written is done at once.
                give = take if written is None else soon.enter_context(Behind(take)).add
                for result in stream:
                    if live := live_source(result):
                        goes_on = False
                        if resume:
                            raise live_refused(live)
                    give(result)
            for result in () if journal is None else journal.left():
                take(result)
    except (KeyboardInterrupt, SystemExit):
        kept = "" if output is None else f"; what was found in them is in {output}"
        kept += ", and --resume goes on" if goes_on else ""
        note(f"interrupted after {summary.images} images{kept}")
        raise
    finally:
        counting.write(output)
    if not quiet:
        summary.print(output)
    if not quiet or output is None:
        counting.print(note if quiet else say)
    if not summary.read:
        raise typer.Exit(1)


def _check_tracking(track: bool, detect_every: int, steady: float, resume: bool) -> None:
    if detect_every != 1 and not track:
        raise FocusDetrError("--detect-every: is of tracking; add --track, or take --every")
    if track and resume:
        raise FocusDetrError("--resume: tracks of the interrupted run are gone; leave it out to begin anew")
    if steady:
        from focus_detr.inference.steadying import Steadying

        Steadying(steady)  # says what is no share
    if steady and resume:
        raise FocusDetrError(
            "--resume: the scores of the interrupted run, which --steady goes by, are gone; leave it out to "
            "begin anew"
        )


def _check_tile(tile: str | None, overlap: float | None) -> None:
    from focus_detr.inference.tiles import Tiling

    Tiling.of(parse_tile(tile), overlap)
