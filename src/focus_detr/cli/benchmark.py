"""focus-detr benchmark: how fast, how large and how good models are here, measured alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from focus_detr.cli.options import DeadlineOption, DeviceOption, TrustOption, parse_size
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.errors import FocusDetrError
from focus_detr.folders import from_home, writable_folder


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Bundled names, folders, presets (random weights), exported files; deployed:MODEL is "
            "the model made ready for inference, PRESET,token_policy=sparse a preset with a field changed.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HxW", help="Height x width of the images; repeatable. The model's own usually."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 1,
    keep_ratio: Annotated[
        list[float] | None, typer.Option(help="Share of tokens kept, in place of the model's; repeatable.")
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(help="Mean share of tokens that an encoder layer works on, likewise; repeatable."),
    ] = None,
    decoder_layers: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Decoder layers that are run, likewise; repeatable.")
    ] = None,
    deadline: DeadlineOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with.")] = None,
    device: DeviceOption = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before those that count.")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="Runs that count; models take turns.")] = 10,
    pause: Annotated[float, typer.Option(min=0, help="Seconds of rest before each run.")] = 0.0,
    memory: Annotated[bool, typer.Option(help="Measure memory, in a process of its own each.")] = True,
    data: Annotated[Path | None, typer.Option(help="Labelled images to measure AP on.")] = None,
    split: Annotated[str, typer.Option(help="The split of the data to use.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images of the data.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the rows and the environment here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of AP (or tokens) against time.")] = None,
    env: Annotated[
        bool, typer.Option("--env", help="Only say what this machine computes with, and why.")
    ] = False,
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Measure time, memory, operations and accuracy of models, in turns on the same images.

    Times are of the forward pass alone. Operations are multiply-accumulates of convolutions and matrix
    products, and of the sampling of deformable attention.
    """
    if env:
        if models:
            raise FocusDetrError(f"--env measures nothing: leave out {', '.join(models)}, or --env")
        from focus_detr.benchmarking.environment import describe_environment

        environment = describe_environment(device or "cpu")
        print_json(environment) if json else say(_environment_text(environment))
        return
    if not models:
        raise FocusDetrError("which MODEL? Give a bundled name, a folder, a preset or an exported file")
    sizes = [parse_size(text) for text in size or []]
    csv, plot = (_checked_file(name, file) for name, file in (("--csv", csv), ("--plot", plot)))
    _check_picture(plot)

    from focus_detr.benchmarking import benchmark as run

    report = run(
        models, sizes=sizes, batch_size=batch_size, keep_ratios=keep_ratio or [],
        budgets=budget or [], decoder_layers=decoder_layers or [], deadline=deadline, threads=threads,
        device=device, dtype=dtype, warmup=warmup, runs=runs, pause=pause, memory=memory, data=data,
        split=split, limit=limit, progress=not json, trust_plugins=trust_plugins,
    )  # fmt: skip
    if csv is not None:
        report.save_csv(csv)
        note(f"rows: {csv}")
    if plot is not None:
        report.save_plot(plot)
        note(f"picture: {plot}")
    print_json(report.to_dict()) if json else say(report.table())


def _checked_file(option: str, file: Path | None) -> Path | None:
    """A file to write, or the error for it before minutes are spent on what it is to hold."""
    if file is None:
        return None
    file = from_home(file)
    writable_folder(file.parent, option)
    if file.is_dir():
        raise FocusDetrError(f"{option} {file}: is a folder; give the name of the file to write")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _check_picture(plot: Path | None) -> None:
    # Said before minutes are spent on what cannot be written.
    known = (".png", ".jpg", ".pdf", ".svg")
    if plot is not None and plot.suffix not in known:
        raise FocusDetrError(f"--plot {plot}: must end in one of {', '.join(known)}")


def _environment_text(environment: dict[str, Any]) -> str:
    lines = [f"{key}: {value}" for key, value in environment.items() if key != "msda" and value is not None]
    lines.append("deformable attention:")
    for each in environment["msda"]:
        mark = "*" if each["active"] else " " if each["available"] else "-"
        lines.append(f"  {mark} {each['name']}: {each['reason']}")
    lines.append("  (* is used, - cannot be had here)")
    return "\n".join(lines)
