"""focus-detr-runtime: find objects in pictures with an exported model; the parser is Python's own."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence

from focus_detr._version import __version__
from focus_detr.errors import FocusDetrError
from focus_detr.inference.results import BadImage, Detections
from focus_detr.printable import finite, printable, unicode_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done; 1 no picture could be read; 2 unusable input, option or file, said on stderr; 130
    interrupted, 143 terminated."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # names of files may be no Unicode, and consoles hold less
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    logging.basicConfig(format="%(message)s", handlers=[logging.StreamHandler()])
    # As Ctrl-C does, it unwinds.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return _predict(options)
    except FocusDetrError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read is gone
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="focus-detr-runtime",
        description="Find objects in pictures with a model that `focus-detr export` wrote as ONNX.",
    )
    add = parser.add_argument
    add("model", metavar="MODEL.onnx")
    add(
        "sources", metavar="IMAGE", nargs="+", help="pictures, archives, folders, glob patterns, URLs, videos"
    )
    add("--threshold", type=float, metavar="SCORE", help="lowest score reported; the model's own by default")
    add("--classes", metavar="NAMES", help="only these, by name: a,b,c")
    add("--budget", type=float, metavar="SHARE", help="mean share of tokens worked on, 0.05 to 1")
    add("--batch-size", type=int, default=1, metavar="N", help="pictures computed at once; 1 by default")
    add("--tile", metavar="PIXELS|auto", help="look at large pictures in tiles of so many pixels a side")
    add("--device", help="cpu by default; cuda, where this ONNX Runtime has it")
    add("--json", action="store_true", help="one JSON list of all pictures, on stdout")
    add("--json-lines", action="store_true", help="a JSON object a picture and line, as they come")
    add("--version", action="version", version=f"focus-detr-runtime {__version__}")
    return parser


def _predict(options: argparse.Namespace) -> int:
    if options.json and options.json_lines:
        raise FocusDetrError("--json, --json-lines: say the same in two forms; leave out one")
    from focus_detr.runtime.predictor import Predictor

    predictor = Predictor(options.model, device=options.device)
    tile = options.tile
    stream = predictor.predict(
        options.sources,
        threshold=options.threshold,
        classes=None if options.classes is None else [name.strip() for name in options.classes.split(",")],
        budget=options.budget,
        batch_size=options.batch_size,
        tile=int(tile) if tile is not None and tile.isdecimal() else tile,
    )
    read, before = 0, "["
    try:
        for result in stream:
            read += isinstance(result, Detections)
            if options.json:
                print(before + _json(result), end="", flush=True)
                before = ", "
            else:
                print(_json(result) if options.json_lines else _line(result), flush=True)
    finally:
        if options.json:  # what was found stays, however the run ends
            print("[]" if before == "[" else "]")
    return 0 if read else 1


def _json(result: Detections | BadImage) -> str:
    return json.dumps(finite(result.to_dict()), allow_nan=False)


def _line(result: Detections | BadImage) -> str:
    name = unicode_name(result.path)
    if isinstance(result, BadImage):
        return f"{name}: not read"
    found = ", ".join(f"{count} {each}" for each, count in result.counts().items())
    return f"{name}: {found or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main())
