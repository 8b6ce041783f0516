"""Log lines as JSON, one object a line, for the programs that collect them."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from focus_detr.printable import finite, printable

_LONGEST = 20_000
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger and message, and whatever a record was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage(), _LONGEST),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["trace"] = printable(self.formatException(record.exc_info), _LONGEST)
        return json.dumps(finite(line), default=str, allow_nan=False)


FORMATS = ("json", "text")


def start_log(format: str) -> None:
    """Every line of this process's log, whoever writes it, on stderr in one of `FORMATS`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if format == "json" else _Text("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(handlers=[handler], force=True)
    for name in ("focus_detr", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)


class _Text(logging.Formatter):
    """Lines for people, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), _LONGEST)
