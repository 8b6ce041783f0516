"""INT8 by post-training quantization (NNCF): the bulk of the products, and nothing that decides."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.export.metadata import Metadata
from focus_detr.export.operations import coarse_groups, operations_of
from focus_detr.export.packages import need
from focus_detr.export.tracing import quiet

if TYPE_CHECKING:
    from focus_detr.export.tolerance import Tolerance
    from focus_detr.inference.sources.files import Sources
    from focus_detr.inference.sources.named import NamedImage
    from focus_detr.models import FocusDetrForObjectDetection

logger = logging.getLogger(__name__)

FEWEST_PICTURES = 10
MOST_PICTURES = 300


def readable(pictures: Sources) -> list[NamedImage]:
    """The first 300 of ``pictures`` (see `expand_sources`) that can be read.

    Raises:
        FocusDetrError: there are fewer than 10.
    """
    from focus_detr.inference.results import BadImage
    from focus_detr.inference.sources.files import expand_sources

    found: list[NamedImage] = []
    for item in expand_sources(pictures):
        image = item if isinstance(item, BadImage) else item.load()
        if isinstance(image, BadImage):
            logger.warning("%s: passed over: %s", image.path, image.reason)
        elif not isinstance(item, BadImage):
            found.append(item)
        if len(found) == MOST_PICTURES:
            break
    if len(found) < FEWEST_PICTURES:
        raise FocusDetrError(
            f"calibration: {len(found)} pictures could be read; at least {FEWEST_PICTURES} are needed, and "
            f"{MOST_PICTURES} of what the model will see are best"
        )
    return found


def in_8_bits(
    graph: Any,
    model: FocusDetrForObjectDetection,
    metadata: Metadata,
    pictures: list[NamedImage],
    tolerance: Tolerance | None,
    save: Callable[[Any, Path], None],
    path: Path,
) -> Any:
    """`quantized`, or, where there is a tolerance, with what that takes left in float32.

    What was measured for it is then written beside ``path``, the file to be, as .blocks.json.
    """
    if tolerance is None:
        return quantized(graph, model, metadata, pictures)
    from focus_detr.export.tolerance import tolerable

    graph, found = tolerable(graph, model, metadata, pictures, tolerance, save, path.suffix)
    path.with_suffix(".blocks.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
    return graph


def quantized(
    graph: Any,
    model: FocusDetrForObjectDetection,
    metadata: Metadata,
    pictures: list[NamedImage],
    given_back: Collection[str] = (),
) -> Any:
    """A graph of ``model`` with 8-bit products, whose ranges come from ``pictures``.

    What `coarse_groups` names computes in 8 bits. The neck, the foreground scorer, the category scores,
    selection, norms, softmax, sampling offsets and boxes stay float32.

    Args:
        graph: the `openvino.Model` or `onnx.ModelProto` written from ``model``.
        model: as it was traced, its convolutions fused.
        pictures: see `readable`.
        given_back: blocks (`operations.coarse_groups`) that stay float32, too.
    """
    nncf = need("nncf", "quantization")
    processor, batch = metadata.processor(), metadata.batch_size or 1

    def pixels(picture: NamedImage) -> Any:
        values = processor(images=[picture.read()], return_tensors="pt")["pixel_values"].numpy()
        values = np.repeat(values, batch, axis=0)
        return values if hasattr(graph, "get_ordered_ops") else {"pixel_values": values}

    operations = operations_of(graph)
    groups = coarse_groups(operations, model)
    coarse = {name for block, names in groups.items() if block not in given_back for name in names}
    with quiet():
        return nncf.quantize(
            graph,
            nncf.Dataset(pictures, pixels),
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,  # what follows a norm or a GELU has both signs
            # Weights of 7 bits, as in `eight_bits.LARGEST`: those of 8 overflow on processors without VNNI.
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            ignored_scope=nncf.IgnoredScope(
                names=[each.name for each in operations if each.name not in coarse],
                validate=False,  # it leaves out operations that nothing comes of
            ),
        )
