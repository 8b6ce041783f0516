"""A model repository for NVIDIA's Triton Inference Server: the ONNX file, its configuration, its labels."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.export import onnx
from focus_detr.export.metadata import KEY, Metadata
from focus_detr.printable import in_line

if TYPE_CHECKING:
    from focus_detr.models import FocusDetrForObjectDetection

LARGEST_BATCH = 16
_WAIT_MICROSECONDS = 5000


def write(model: FocusDetrForObjectDetection, folder: Path, metadata: Metadata, *, name: str) -> None:
    """Write a repository of one model: ``<folder>/<name>/config.pbtxt``, and ``1/model.onnx`` beside it.

    Where the batch is free the server makes batches itself, of pictures of one size. Thresholds, classes and
    preprocessing are in the configuration's parameter `focus_detr`, as in the ONNX file: clients prepare
    pictures and read answers, as `load_exported(".../1/model.onnx")` does.
    """
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        place = unfinished / name
        (place / "1").mkdir(parents=True)
        onnx.write(model, place / "1" / "model.onnx", metadata)
        labels = "".join(f"{in_line(label)}\n" for label in metadata.class_names)
        (place / "labels.txt").write_text(labels, encoding="utf-8")
        text = configuration(name, metadata, _outputs(place / "1" / "model.onnx"))
        (place / "config.pbtxt").write_text(text, encoding="utf-8")
        unfinished.chmod(0o755)  # the server is another user
        if folder.is_dir():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def configuration(name: str, metadata: Metadata, outputs: dict[str, list[int]]) -> str:
    """The text of `config.pbtxt` (ModelConfig of Triton, in protobuf's text format).

    Args:
        outputs: sizes of each, the batch's first; -1 where free.
    """
    height, width = metadata.image_size or (-1, -1)
    sizes = {"pixel_values": [metadata.batch_size or -1, 3, height, width], **outputs}
    free = metadata.batch_size is None
    # With max_batch_size the batch is implied, and a fixed one is a size like others.
    said = {key: value[1:] if free else value for key, value in sizes.items()}
    parts = [
        f"name: {_text(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {LARGEST_BATCH if free else 0}",
        f"input [ {_tensor('pixel_values', said.pop('pixel_values'))} ]",
        f"output [ {', '.join(_tensor(key, value) for key, value in said.items())} ]",
    ]
    if free:
        parts.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_WAIT_MICROSECONDS} }}")
    parts.append(f"parameters {{ key: {_text(KEY)} value {{ string_value: {_text(metadata.to_json())} }} }}")
    return "\n".join(parts) + "\n"


def _tensor(name: str, sizes: list[int]) -> str:
    labels = ' label_filename: "labels.txt"' if name == "logits" else ""
    return f"{{ name: {_text(name)} data_type: TYPE_FP32 dims: {sizes}{labels} }}"


def _text(value: str) -> str:
    """A string of the text format: escapes of ASCII are JSON's; all else is UTF-8, as bytes in octal."""
    plain = json.dumps(value, ensure_ascii=False)
    return "".join(
        char if char.isascii() else "".join(f"\\{byte:03o}" for byte in char.encode()) for char in plain
    )


def _outputs(file: Path) -> dict[str, list[int]]:
    import onnx as format

    graph: Any = format.load(file, load_external_data=False).graph
    return {
        each.name: [size.dim_value or -1 for size in each.type.tensor_type.shape.dim] for each in graph.output
    }
