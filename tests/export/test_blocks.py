"""Blocks of a small model's graphs in 8 bits: what is rounded, what it costs, what is given back."""

from __future__ import annotations

import onnx
import pytest
import torch

from focus_detr.export import export
from focus_detr.export.metadata import Metadata
from focus_detr.export.operations import coarse_groups, operations_of
from focus_detr.images.processor import FocusDetrImageProcessor
from helpers.small_models import SHALLOW, image, small_model

pytest.importorskip("nncf")
onnxruntime = pytest.importorskip("onnxruntime")
SIZE = (64, 96)
PROCESSOR = FocusDetrImageProcessor(size={"height": SIZE[0], "width": SIZE[1]})
FFN = "encoder.layers.0.ffn"


class Picture:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def read(self):
        from PIL import Image

        pixels = (image(*SIZE, seed=self.seed).permute(1, 2, 0) * 50 + 128).clamp(0, 255)
        return Image.fromarray(pixels.to(torch.uint8).numpy())


PICTURES = [Picture(seed) for seed in range(10)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, its graph, and what goes with both. One hidden value of its first feed-forward network is huge
    and multiplied by nothing: only ranges see it."""
    from focus_detr.deploy.fusion import fuse_convolutions

    model = small_model(**SHALLOW)
    with torch.no_grad():
        ffn = model.get_submodule(FFN)
        ffn.linear1.bias[0] = 1e5
        ffn.linear2.weight[:, 0] = 0
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export(model, path, image_size=SIZE, batch_size=1, processor=PROCESSOR)
    fuse_convolutions(model.backbone)
    fuse_convolutions(model.neck)
    return onnx.load(path), model, Metadata.of(model.config, PROCESSOR, SIZE, 1)


def in_8_bits(exported, *blocks):
    """The graph with these blocks alone in 8 bits."""
    from focus_detr.export.quantization import quantized

    graph, model, metadata = exported
    others = set(coarse_groups(operations_of(graph), model)) - set(blocks)
    return quantized(graph, model, metadata, PICTURES, others)


def answers(graph, *names):
    """Outputs by name, with the tokens of the first selection, of each picture."""
    selection = next(node for node in graph.graph.node if node.op_type == "TopK").output[1]
    graph = onnx.ModelProto.FromString(graph.SerializeToString())
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(selection))
    graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = []
    for picture in PICTURES:
        pixels = PROCESSOR(images=[picture.read()], return_tensors="pt")["pixel_values"].numpy()
        found.append(session.run([selection, *names], {"pixel_values": pixels}))
    return found


@pytest.mark.slow
def test_scores_and_selection_stay_in_floats_so_what_follows_them_changes_no_kept_set(exported):
    graph, model, _ = exported
    groups = coarse_groups(operations_of(graph), model)
    assert not any(each.startswith("neck") for each in groups)
    assert FFN in groups and "host.decoder.layers.0" in groups
    assert [f"backbone.model.encoder.stages.{stage}" in groups for stage in range(2)] == [True, True]
    rounded = in_8_bits(exported, *(each for each in groups if not each.startswith("backbone")))
    kinds = [node.op_type for node in rounded.graph.node]
    assert kinds.count("QuantizeLinear") > 4 > [n.op_type for n in graph.graph.node].count("QuantizeLinear")
    changed = 0.0
    for (kept, own), (wanted, logits) in zip(
        answers(rounded, "logits"), answers(graph, "logits"), strict=True
    ):
        assert kept.tolist() == wanted.tolist()
        changed += abs(own - logits).max()
    assert changed > 0


@pytest.mark.slow
def test_a_block_made_bad_on_purpose_is_given_back_and_no_other(exported):
    from focus_detr.export.tolerance import search

    wanted = answers(exported[0], "logits")

    def lost(*blocks):
        found = answers(in_8_bits(exported, *blocks), "logits") if blocks else wanted
        return max(float(abs(a[1] - b[1]).mean()) for a, b in zip(found, wanted, strict=True))

    blocks = ["host.decoder.layers.0", FFN]
    others = [each for each in blocks if each != FFN]
    tolerated = 1.5 * lost(*others)
    assert 0 < tolerated
    found = search(
        blocks, lost, lambda given_back: lost(*(b for b in blocks if b not in given_back)), tolerated
    )
    assert found.given_back == (FFN,), found
