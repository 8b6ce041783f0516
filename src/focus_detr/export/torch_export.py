"""torch.export: a .pt2 file, which torch runs without this package's code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.export.metadata import KEY, Metadata

if TYPE_CHECKING:
    from focus_detr.models import FocusDetrForObjectDetection

_ENTRY = f"{KEY}.json"


def write(model: FocusDetrForObjectDetection, path: Path, metadata: Metadata) -> None:
    """Write the model as an exported program."""
    import torch

    from focus_detr.export.tracing import quiet, trace

    form: dict[str, Any] = {"sampler": "grid_sample", "stable_sort": True, "size_step": metadata.size_step}
    graph = trace(model, metadata.image_size, metadata.batch_size, **form)
    for module in graph.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # megabytes, and paths of this machine
    content = io.BytesIO()  # on a full disk, torch ends the process
    with quiet():
        torch.export.save(graph, content, extra_files={_ENTRY: metadata.to_json()})
    path.write_bytes(content.getbuffer())


class Session:
    """A .pt2 file in torch."""

    def __init__(self, path: Path, device: str) -> None:
        import torch
        from torch.export.passes import move_to_device_pass

        from focus_detr.export.archive import refuse_code
        from focus_detr.export.tracing import quiet

        refuse_code(path)
        extra = {_ENTRY: ""}
        try:
            with quiet():
                program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # zip, pickle and schema errors
            raise FocusDetrError(f"{path}: torch cannot load it: {error}") from error
        self.metadata = Metadata.from_json(extra[_ENTRY], path)
        self.device = torch.device(device)
        if self.device.type != "cpu":
            program = move_to_device_pass(program, self.device)
        self.module = program.module()

    def run(self, pixel_values: np.ndarray, counts: np.ndarray | None = None) -> list[np.ndarray]:
        """pixel_values (B,3,H,W) -> logits (B,Q,k), pred_boxes (B,Q,4), and others of `metadata.outputs`."""
        import torch

        with torch.no_grad():
            answers = self.module(torch.from_numpy(pixel_values).to(self.device))
        return [answer.cpu().numpy() for answer in answers]
