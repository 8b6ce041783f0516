"""focus-detr batch: find objects in millions of pictures, on this machine or on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from focus_detr.batch.environment import WAIT_ASLEEP, unless_set
from focus_detr.cli.choices import classes_of, parse_thresholds, threshold_of
from focus_detr.cli.options import (
    BudgetOption,
    ClassesOption,
    DecoderLayersOption,
    DeployOption,
    DeviceOption,
    ModelArgument,
    SettingOption,
    ThresholdOption,
    TrustOption,
    parse_budget,
    split_names,
)
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.errors import FocusDetrError
from focus_detr.folders import writable_folder
from focus_detr.printable import counted
from focus_detr.zoo.resolve import resolve_model

if TYPE_CHECKING:
    from focus_detr.batch.run import Started
    from focus_detr.batch.working import Done, Work
    from focus_detr.inference.predictor import Predictor

_CHOICES = frozenset(
    "model inputs threshold classes budget decoder_layers setting".split()
    + "block_size column max_megapixels deploy".split()
)
"""What a run that goes on must have asked for alike."""


def batch(
    model: ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Folders, pictures, glob patterns, Parquet tables (of pictures or of paths), WebDataset "
            "shards (.tar), or URLs of such in a store that fsspec knows, as in s3://bucket/folder.",
        ),
    ],
    output: Annotated[
        str, typer.Option(help="Folder for results, or a URL of one in a store; with a run in it, goes on.")
    ],
    format: Annotated[
        str, typer.Option(help="Results, separated by commas: parquet, coco, json (JSON lines).")
    ] = "parquet",
    threshold: ThresholdOption = None,
    classes: ClassesOption = None,
    budget: BudgetOption = None,
    decoder_layers: DecoderLayersOption = None,
    setting: SettingOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures computed at once.")] = 4,
    block_size: Annotated[
        int, typer.Option(min=1, help="Pictures of a block, which is done or begun anew.")
    ] = 256,
    column: Annotated[
        str | None,
        typer.Option(
            help="The tables' column of pictures or paths; of shards, the ending of pictures, as in jpg. "
            "Usual names are found."
        ),
    ] = None,
    max_megapixels: Annotated[
        int, typer.Option(min=1, help="Pictures of more are dead letters, before they fill the memory.")
    ] = 200,
    address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster: host:port, or auto for the one this machine is of. When not given, that of "
            "RAY_ADDRESS, or one is started on this machine."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes at work at a time; as many as there is room for when not given."),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs of a process; a share for each GPU, or else at most 4.")
    ] = None,
    readers: Annotated[
        int, typer.Option(min=1, help="Threads of a process that read pictures while the model works.")
    ] = 2,
    local: Annotated[bool, typer.Option("--local", help="In this one process, without Ray.")] = False,
    device: DeviceOption = None,
    deploy: DeployOption = False,
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Find objects in millions of pictures, each with exactly one result.

    Pictures that give none are in dead-letters.parquet, with the reason. Ended in any way, the same command
    goes on: blocks that are done stay done. Exit code 1 means that no picture gave a result.
    """
    asked = {f"--{name.replace('_', '-')}": value for name, value in locals().items() if name in _CHOICES}
    if local and (address or workers or cpus):
        raise FocusDetrError("--local: is this one process; leave out --address, --workers and --cpus")
    thresholds = parse_thresholds(threshold or [])
    formats = list(dict.fromkeys(split_names(format) or []))
    if not formats:
        raise FocusDetrError(f"--format {format!r}: names none; use any of parquet, coco, json")
    resolve_model(model)  # a wrong name is said before anything is listed

    with ExitStack() as stack:
        if local:  # as for processes of Ray
            stack.enter_context(unless_set(WAIT_ASLEEP))
        from focus_detr.batch.inputs import Listing
        from focus_detr.batch.ledger import Ledger
        from focus_detr.batch.places import Place
        from focus_detr.batch.run import begun, finish, finished
        from focus_detr.batch.working import Work, Worker, refuse_unknown_classes

        place = Place.of(output)
        if place.is_local:
            place = Place(str(writable_folder(place.name, "--output").absolute()))
        names = _class_names(model)
        work = Work(
            output=place,
            model=model,
            threshold=threshold_of(thresholds, names),
            classes=classes_of(classes, names),
            budget=parse_budget(budget),
            decoder_layers=decoder_layers,
            setting=setting,
            batch_size=batch_size,
            max_megapixels=max_megapixels,
            device=device,
            deploy=deploy,
            trust_plugins=trust_plugins,
            readers=readers,
        )
        listing = Listing(inputs, block_size, column)
        predictor = None
        # What the model refuses is refused before there is a run, which would go on with nothing else.
        if local and not Ledger(place).summary.exists():
            predictor = Worker(work).predictor
        elif names:
            refuse_unknown_classes(work, names)
        started = stack.enter_context(begun(listing, work, formats, asked))
        for line in started.notes:
            note(line)
        summary = finished(started.ledger)
        if summary is None:
            _look(work, started, predictor, address, workers, cpus, not json)
            summary = finish(started.ledger, formats)
        else:
            note(f"--output {output}: holds a run that is finished; left as it is")
    if json:
        print_json(summary)
    else:
        _print(summary, output)
    if not summary["detected"]:
        raise typer.Exit(1)


def _look(
    work: Work,
    started: Started,
    predictor: Predictor | None,
    address: str | None,
    workers: int | None,
    cpus: int | None,
    progress: bool,
) -> None:
    from tqdm import tqdm

    if started.done:
        note(f"{len(started.done)} of {started.blocks} blocks are done; going on with the others")
    if len(started.done) == started.blocks:
        return
    begun = time.monotonic()
    pictures = 0
    with tqdm(total=started.blocks, initial=len(started.done), unit="block", disable=not progress) as bar:
        for done in _blocks(work, started, predictor, address, workers, cpus):
            pictures += done.pictures
            bar.update()
            bar.set_postfix_str(f"{pictures / (time.monotonic() - begun):.1f} images/s")


def _blocks(
    work: Work,
    started: Started,
    predictor: Predictor | None,
    address: str | None,
    workers: int | None,
    cpus: int | None,
) -> Iterator[Done]:
    if predictor is not None:
        from focus_detr.batch.run import run_here

        yield from run_here(work, started, predictor)
        return
    from focus_detr.batch.cluster import connected, run_on_ray

    with connected(address) as alone:
        yield from run_on_ray(
            work, started.ledger, started.pending(), workers=workers, cpus=cpus, alone=alone
        )


def _class_names(model: str) -> tuple[str, ...]:
    """Those of a model's configuration, without loading it; none of an exported file's."""
    from json import loads

    file = resolve_model(model) / "config.json"
    if not file.is_file():
        return ()
    names: dict[str, Any] = loads(file.read_text(encoding="utf-8")).get("id2label") or {}
    return tuple(names[label] for label in sorted(names, key=int))


def _print(summary: dict[str, Any], output: str) -> None:
    say(
        f"{counted(summary['pictures'], 'picture')}: {counted(summary['objects'], 'object')} in "
        f"{summary['detected']}, {counted(summary['dead'], 'dead letter')}"
    )
    for kind, count in summary["dead_by_kind"].items():
        say(f"  {kind}: {count}")
    say(f"results: {output}")
