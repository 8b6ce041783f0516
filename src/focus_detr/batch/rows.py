"""A picture's row in the tables of a run, and the part of a table that a block becomes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from focus_detr.batch.letters import DeadLetter
from focus_detr.batch.table import arrow
from focus_detr.inference.results import Detections
from focus_detr.printable import printable, unicode_name
from focus_detr.structures.instances import Instances

_FOR_LETTERS = ("path", "kind", "reason")


@cache
def part_schema() -> Any:
    """Of a block's part: results, and dead letters, which have a kind."""
    pa, _ = arrow()
    found = pa.struct(
        [
            ("label", pa.int32()),
            ("name", pa.string()),
            ("score", pa.float32()),
            ("box_xyxy", pa.list_(pa.float32(), 4)),
        ]
    )
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("budget", pa.float32()),
            ("objects", pa.list_(found)),
            ("kind", pa.string()),
            ("reason", pa.string()),
        ]
    )


def row_of(result: Detections | DeadLetter) -> dict[str, Any]:
    """What `Detections.to_dict` says, or the dead letter."""
    if isinstance(result, Detections):
        return result.to_dict()
    return {"path": unicode_name(result.name), "kind": result.kind, "reason": printable(result.reason)}


def part_of(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> bytes:
    """A block's Parquet file: a row a picture, in the block's order, and ``facts`` of the model beside."""
    pa, parquet = arrow()
    schema = part_schema().with_metadata({b"focus-detr": json.dumps(facts).encode()})
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), stream, compression="zstd")
    return stream.getvalue()


def read_part(content: bytes) -> tuple[Any, Any, dict[str, Any]]:
    """Of a block's part the table of results, that of dead letters, and the facts of the model."""
    import pyarrow.compute as compute

    _, parquet = arrow()
    table = parquet.read_table(io.BytesIO(content))
    facts = json.loads(table.schema.metadata[b"focus-detr"])
    table = table.replace_schema_metadata(None)
    dead = compute.is_valid(table["kind"])
    results = table.filter(compute.invert(dead)).drop_columns(list(_FOR_LETTERS[1:]))
    return results, table.filter(dead).select(list(_FOR_LETTERS)), facts


def result_schema() -> Any:
    """Of the tables of results."""
    pa, _ = arrow()
    return pa.schema([field for field in part_schema() if field.name not in _FOR_LETTERS[1:]])


def letter_schema() -> Any:
    """Of the table of dead letters."""
    pa, _ = arrow()
    return pa.schema([field for field in part_schema() if field.name in _FOR_LETTERS])


def detections_of(row: dict[str, Any], names: Sequence[str]) -> Detections:
    """The detections that a row was made of."""
    objects = row["objects"]
    return Detections(
        row["path"],
        Instances(
            boxes_xyxy=np.array([each["box_xyxy"] for each in objects], np.float32).reshape(-1, 4),
            labels=np.array([each["label"] for each in objects], np.int64),
            scores=np.array([each["score"] for each in objects], np.float32),
        ),
        names,
        (row["height"], row["width"]),
        budget=row["budget"],
    )
