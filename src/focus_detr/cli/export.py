"""focus-detr export: a model to one file that other runtimes read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.options import (
    DecoderLayersOption,
    ModelArgument,
    SettingOption,
    TrustOption,
    parse_budget,
    parse_size,
)
from focus_detr.cli.output import JsonFlag, print_json, say


def export(
    model: ModelArgument,
    format: Annotated[
        str, typer.Option(help="onnx, openvino, torch-export, tensorrt, triton or web.")
    ] = "onnx",
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, for triton and web a folder; <model>.onnx, .xml, .pt2, -triton or -web here "
            "when not given."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Fix height and width, to which images are then stretched."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Fix the number of images; free if absent.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|any",
            help="Mean share of tokens that an encoder layer works on, 0.05 to 1, fixed in the file; any "
            "makes it an input, of onnx and openvino. The model's own when not given.",
        ),
    ] = None,
    decoder_layers: DecoderLayersOption = None,
    setting: SettingOption = None,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32; fp16 or bf16 for products of half the size; int8 of onnx and openvino, with "
            "--calibration."
        ),
    ] = "fp32",
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="Picture, folder or pattern that int8 takes its ranges from, in place of those of a "
            "training with --eight-bits; repeatable."
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="AP, 0 to 1, that int8 may lose on --data: the blocks that cost most stay in float32."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled data set that --max-drop is measured on.")
    ] = None,
    split: Annotated[str, typer.Option(help="Its split.")] = "val",
    page_budget: Annotated[
        list[float] | None,
        typer.Option(help="Budget that the page of format web offers beside the model's own; repeatable."),
    ] = None,
    examples: Annotated[
        list[str] | None,
        typer.Option(help="Picture that the page of format web offers; repeatable. Default: blood smears."),
    ] = None,
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Write a model, its class names and its preprocessing to one file for another runtime.

    The file is a model like any other: predict, evaluate and benchmark take it. Sizes that are not fixed stay
    free; with OpenVINO, --budget any and some backbones, in multiples of 32 pixels.

    Format web writes a folder for any web server: a page that runs the model in the browser. Format triton
    writes a model repository for Triton Inference Server.
    """
    from focus_detr.export import export as write
    from focus_detr.export.exporter import FOLDERS, suffix_of
    from focus_detr.zoo.resolve import resolve_model

    folder = resolve_model(model)
    path = output or Path(f"{folder.name}{suffix_of(format) or f'-{format}'}")
    sides = None if size is None else parse_size(size)
    written = write(
        str(folder),
        path,
        format,
        image_size=sides,
        batch_size=batch,
        budget=parse_budget(budget, "any"),
        decoder_layers=decoder_layers,
        setting=setting,
        precision=precision,
        calibration=calibration or None,
        max_drop=max_drop,
        data=data,
        split=split,
        page_budgets=page_budget or (),
        examples=examples or (),
        trust_plugins=trust_plugins,
    )
    if format in FOLDERS:
        _say_folder(written, format, json)
        return
    files = [file for file in sorted(written.parent.glob(f"{written.stem}.*")) if file.is_file()]
    if json:
        print_json(
            {"file": str(written), "format": format, "bytes": {f.name: f.stat().st_size for f in files}}
        )
        return
    for file in files:
        say(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    say(f"Try it: focus-detr predict {written} IMAGE")


def _say_folder(folder: Path, format: str, json: bool) -> None:
    sizes = {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    if json:
        print_json({"folder": str(folder), "format": format, "bytes": sizes})
        return
    say(f"{folder}  {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} files")
    server = "tritonserver --model-repository" if format == "triton" else "python -m http.server --directory"
    say(f"Try it: {server} {folder}")
