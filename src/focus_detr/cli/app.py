"""The parser, made of the verbs' functions, and the one place that turns errors into exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Annotated

import typer

from focus_detr import __version__
from focus_detr.cli.asking import may_import
from focus_detr.cli.batch import batch
from focus_detr.cli.benchmark import benchmark
from focus_detr.cli.calibrate import calibrate
from focus_detr.cli.check import check
from focus_detr.cli.compare import compare
from focus_detr.cli.convert import convert
from focus_detr.cli.data import data
from focus_detr.cli.doctor import doctor
from focus_detr.cli.download import download
from focus_detr.cli.evaluate import evaluate
from focus_detr.cli.explain import explain
from focus_detr.cli.export import export
from focus_detr.cli.models import models
from focus_detr.cli.output import PrintableFormatter, any_console
from focus_detr.cli.predict import predict
from focus_detr.cli.presets import presets
from focus_detr.cli.recipes import recipes
from focus_detr.cli.serve import serve
from focus_detr.cli.strict import StrictCommand
from focus_detr.cli.train import train
from focus_detr.disk import refusal
from focus_detr.errors import FocusDetrError
from focus_detr.models.plugins import asking
from focus_detr.printable import printable

# Tracebacks stay Python's own, and help plain text: both are searched, logged and pasted into reports.
app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"focus-detr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Focus-DETR: object detection that looks closely only where objects are."""


for _verb in (
    predict, batch, train, evaluate, compare, calibrate, explain, check, doctor, convert, export, models,
    download, presets, recipes, benchmark, serve,
):  # fmt: skip
    app.command(cls=StrictCommand)(_verb)
app.add_typer(data, name="data")


def main() -> None:
    """Entry point of the command `focus-detr`."""
    # A bar for each file of weights read is noise between our own lines; read when transformers is imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    any_console()
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("focus_detr").setLevel(logging.INFO)
    # As Ctrl-C does, it unwinds: files are closed, half-written ones removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with asking(may_import):
            app(prog_name="focus-detr")
    except FocusDetrError as error:
        typer.secho(printable(f"error: {error}"), fg=typer.colors.RED, err=True)
        sys.exit(2)
    except OSError as error:
        reason = refusal(error)
        if reason is None:
            raise
        typer.secho(printable(f"error: output cannot be written ({reason})"), fg=typer.colors.RED, err=True)
        sys.exit(2)
