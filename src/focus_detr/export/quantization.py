"""INT8 by post-training quantization (NNCF): the bulk of the products, and nothing that decides."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.deploy.precision import coarse_layers
from focus_detr.errors import FocusDetrError
from focus_detr.export.metadata import Metadata
from focus_detr.export.packages import need
from focus_detr.export.tracing import quiet

if TYPE_CHECKING:
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


def quantized(
    graph: Any, model: FocusDetrForObjectDetection, metadata: Metadata, pictures: list[NamedImage]
) -> Any:
    """An OpenVINO model of ``model`` with 8-bit products, whose ranges come from ``pictures``.

    What `coarse_layers` names computes in 8 bits. The foreground scorer, the category scores, selection,
    norms, softmax, sampling offsets and boxes stay float32.

    Args:
        graph: the `openvino.Model` written from ``model``.
        model: as it was traced, its convolutions fused.
        pictures: see `readable`.
    """
    nncf = need("nncf", "quantization")
    processor, batch = metadata.processor(), metadata.batch_size or 1

    def pixels(picture: NamedImage) -> np.ndarray:
        values = processor(images=[picture.read()], return_tensors="pt")["pixel_values"].numpy()
        return np.repeat(values, batch, axis=0)

    with quiet():
        return nncf.quantize(
            graph,
            nncf.Dataset(pictures, pixels),
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,  # what follows a norm or a GELU has both signs
            ignored_scope=nncf.IgnoredScope(names=_float_operations(graph, model)),
        )


def _float_operations(graph: Any, model: FocusDetrForObjectDetection) -> list[str]:
    """Names of all operations but the backbone's and those of coarse layers.

    Writing a graph renames its operations and transposes its weights: a layer is known by its weights.
    """
    layers = coarse_layers(model)
    arrays = {name: layer.state_dict()["weight"].numpy() for name, layer in layers.items()}
    weights = {_key(array) for array in arrays.values()}
    weights |= {_key(array.T) for array in arrays.values() if array.ndim == 2}
    neck = {_key(array) for name, array in arrays.items() if name.startswith("neck.")}
    operations = graph.get_ordered_ops()
    coarse, backbone_outputs = set(), []
    for operation in operations:
        if operation.get_type_name() not in ("Convolution", "MatMul"):
            continue
        constants = [key for node in _inputs(operation) if (key := _constant_key(node)) is not None]
        if any(key in weights for key in constants):
            coarse.add(operation.get_friendly_name())
        if any(key in neck for key in constants):
            backbone_outputs.append(operation)
    if not backbone_outputs:
        raise FocusDetrError("int8: the graph's neck is not that of the model it should be of")
    coarse |= {node.get_friendly_name() for node in _ancestors(backbone_outputs)}
    return [name for node in operations if (name := node.get_friendly_name()) not in coarse]


def _key(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, np.ascontiguousarray(array).tobytes()


def _constant_key(node: Any) -> tuple[tuple[int, ...], bytes] | None:
    return _key(node.data) if node.get_type_name() == "Constant" else None


def _inputs(node: Any) -> list[Any]:
    return [port.get_source_output().get_node() for port in node.inputs()]


def _ancestors(nodes: list[Any]) -> list[Any]:
    found: dict[str, Any] = {}
    waiting = list(nodes)
    while waiting:
        for node in _inputs(waiting.pop()):
            if node.get_friendly_name() not in found:
                found[node.get_friendly_name()] = node
                waiting.append(node)
    return list(found.values())
