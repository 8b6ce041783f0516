"""Write a model that detects as YOLOX-nano does before it is trained: what `everyday` starts from.

    python scripts/start_from_yolox.py yolox_nano.onnx runs/start
    focus-detr train COCO --model runs/start --recipe everyday

The preset `focus-detr-yolox-nano`, whose parts are set so that they pass on what YOLOX' heads predict:

- The input projections make of a level's towers the 80 class logits (objectness added, which ranks as their
  product does), the box, the objectness, and further directions of the tower of boxes. This is the content
  of a token; a rotation spreads it over all channels.
- Attentions and feed-forward networks add nothing at first but a large constant along one more direction: the
  norm after them would rescale tokens one by one, and beside the constant their lengths are nearly equal. The
  norm's gain and bias take it away again: each sum and its norm are then nearly the identity.
- Queries attend to those alike at first: keys are made as queries are.
- Class heads read logits off, the proposals' box head passes the box through pairs of ReLUs.
- Queries that overlap a better one of their class say less of all classes; YOLOX suppresses them afterwards.
"""

# Shapes: C channels of the model, D directions of content, k classes, F channels of a level's two towers.

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.convert.coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from focus_detr.models.backbones.weights import load_pretrained_backbone
from focus_detr.models.backbones.yolox_weights import YoloxHeads, read_yolox
from focus_detr.models.heads.boxes import BoxHead
from focus_detr.models.heads.classes import ClassHead
from focus_detr.models.hosts.precedence import Precedence
from focus_detr.training.recipe import load_recipe
from focus_detr.training.starting_model import build_image_processor

# Lengths of the part that all tokens have in common, and of the rest where something is detected, about.
CONSTANT, TYPICAL = 80.0, 16.0
REMAINDER = 30.0  # of the constant, after a decoder layer: for the norm that all layers share
LOGIT_MEAN, LOGIT_SCALE = -10.0, 4.0  # of class logits with objectness, about
# Of the sum of two logits those whose scores are calibrated to overlaps: they have the least varifocal loss,
# of queries one-to-one, of proposals one-to-many. Where they are not, all of the model learns that first.
SLOPE, SHIFT, PROPOSED_SHIFT = 0.26, -0.3, 0.2

# YOLOX' suppression, as a ramp that can be learned from.
OVERLAP, RAMP, SUPPRESSED = 0.65, 0.1, 2.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("onnx", type=Path, help="yolox_nano.onnx")
    parser.add_argument("output", type=Path, help="folder of the model")
    parser.add_argument("--model", default="focus-detr-yolox-nano")
    parser.add_argument("--recipe", default="everyday", help="for the sizes of images")
    arguments = parser.parse_args()

    config = FocusDetrConfig.from_preset(
        arguments.model,
        id2label=dict(enumerate(COCO_CLASS_NAMES)),
        label2id={name: label for label, name in enumerate(COCO_CLASS_NAMES)},
        category_ids=list(COCO_CATEGORY_IDS),
    )
    torch.manual_seed(0)
    model = FocusDetrForObjectDetection(config)
    start_from_yolox(model, arguments.onnx)
    model.save_pretrained(arguments.output)
    build_image_processor(model, load_recipe(arguments.recipe)).save_pretrained(arguments.output)
    print(
        f"{arguments.output}: {sum(each.numel() for each in model.parameters()) / 1e6:.2f} million parameters"
    )


@torch.no_grad()
def start_from_yolox(model: FocusDetrForObjectDetection, path: Path) -> None:
    """Backbone, input projections, norms and heads such that the model predicts what the file's does."""
    load_pretrained_backbone(model.backbone, path)
    _, heads = read_yolox(path, model.backbone.config)
    width = model.config.d_model
    basis, common = directions(width)
    for projection, level in zip(model.neck.projections, heads, strict=True):
        weight, bias = content(level, basis.shape[1])
        projection.conv.weight.copy_((basis @ weight)[:, :, None, None])
        projection.conv.bias.copy_(basis @ bias)

    for layer in model.encoder.layers:
        pass_on(layer.self_attention.out_proj, layer.self_attention_norm, common)
        pass_on(layer.deformable_attention.output_proj, layer.deformable_attention_norm, common)
        pass_on(layer.ffn.linear2, layer.ffn_norm, common)
    decoder, given = model.host.decoder, 0.0
    for layer in decoder.layers:
        pass_on(layer.self_attention.out_proj, layer.self_attention_norm, common, given)
        pass_on(layer.cross_attention.output_proj, layer.cross_attention_norm, common)
        pass_on(layer.ffn.linear2, layer.ffn_norm, common, left=REMAINDER)
        query, key, _ = layer.self_attention.in_proj_weight.chunk(3)
        key.copy_(query)
        given = REMAINDER
    set_norm(decoder.norm, common, REMAINDER, 0.0)
    assert model.proposals is not None
    pass_on(model.proposals.projection, model.proposals.norm, common)
    model.proposals.projection.weight.copy_(torch.eye(width))
    for head in model.host.class_heads:
        read_classes(head, basis, SHIFT)
    read_classes(model.proposals.class_head, basis, PROPOSED_SHIFT)
    pass_boxes(model.proposals.box_head, basis)
    if model.host.precedence is not None:
        suppress(model.host.precedence, basis)


def directions(width: int) -> tuple[Tensor, Tensor]:
    """A basis (C,D) of contents and the common direction (C,): orthonormal, all of mean zero, as norms
    subtract means."""
    common = torch.ones(width)
    common[1::2] = -1
    generator = torch.Generator().manual_seed(0)
    columns = torch.cat(
        [torch.ones(width, 1), common[:, None], torch.randn(width, width - 2, generator=generator)], 1
    )
    rotation = torch.linalg.qr(columns.double())[0].float()
    return rotation[:, 2:], common / width**0.5


def content(heads: YoloxHeads, size: int) -> tuple[Tensor, Tensor]:
    """What a level's towers (F) make of a token: weight (D,F) and bias (D,).

    First the k class logits, then the four numbers of the box in units of the cell, objectness, and as many
    further directions of the tower of boxes as there is room for.
    """
    (classes, class_bias), (boxes, box_bias) = heads.classes, heads.boxes
    objectness, objectness_bias = heads.objectness
    k, tower = classes.shape
    weight, bias = torch.zeros(size, 2 * tower), torch.zeros(size)
    weight[:k, :tower] = classes / LOGIT_SCALE
    weight[:k, tower:] = objectness / LOGIT_SCALE
    bias[:k] = (class_bias + objectness_bias - LOGIT_MEAN) / LOGIT_SCALE
    weight[k : k + 4, tower:] = boxes
    bias[k : k + 4] = box_bias - torch.tensor([0.5, 0.5, 0.0, 0.0])  # from the corner to the centre
    weight[k + 4, tower:] = objectness[0] / LOGIT_SCALE
    bias[k + 4] = (objectness_bias[0] - LOGIT_MEAN / 2) / LOGIT_SCALE
    read = torch.cat([boxes, objectness])
    others = torch.linalg.svd(read.double())[2][len(read) :].float()  # what no head reads
    rest = min(size - k - 5, len(others))
    weight[k + 5 : k + 5 + rest, tower:] = others[:rest]
    return weight, bias


def read_classes(head: ClassHead, basis: Tensor, shift: float) -> None:
    """Logits (k) off contents (C)."""
    k = head.out_features
    head.weight.copy_(SLOPE * LOGIT_SCALE * basis[:, :k].T)
    head.bias.fill_(SLOPE * LOGIT_MEAN + shift)


def pass_boxes(head: BoxHead, basis: Tensor) -> None:
    """The four numbers after the class logits, each through a pair of ReLUs a layer: x = relu(x) - relu(-x).

    The other hidden channels start as in a new model, and say nothing at first.
    """
    first, second, last = (layer for layer in head.layers)
    k = basis.shape[1] - (basis.shape[1] - 80)
    box = basis[:, k : k + 4].T
    first.weight[:8].copy_(torch.cat([box, -box]))
    first.bias[:8].zero_()
    second.weight[:8].copy_(torch.eye(8, second.in_features))
    second.bias[:8].zero_()
    last.weight.zero_()
    last.bias.zero_()
    last.weight[:, :4].copy_(torch.eye(4))
    last.weight[:, 4:8].copy_(-torch.eye(4))


def suppress(precedence: Precedence, basis: Tensor) -> None:
    """All class logits fall by `SUPPRESSED` where an overlap is over `OVERLAP`, by a ramp about it."""
    first, last = precedence.told.layers
    first.weight[:2].fill_(1.0)
    first.bias[:2].copy_(torch.tensor([-OVERLAP + RAMP / 2, -OVERLAP - RAMP / 2]))
    last.weight.zero_()
    last.bias.zero_()
    every = basis[:, :80].sum(1) / (SLOPE * LOGIT_SCALE)  # moves all logits by one
    last.weight[:, 0] = -SUPPRESSED / RAMP * every
    last.weight[:, 1] = SUPPRESSED / RAMP * every


def pass_on(
    last: nn.Linear, norm: nn.LayerNorm, common: Tensor, given: float = 0.0, left: float = 0.0
) -> None:
    """A layer that adds the constant alone, and a norm after the sum that is nearly the identity.

    Args:
        given, left: how much of the constant comes in, and is to go out.
    """
    last.weight.zero_()
    last.bias.copy_((CONSTANT - given) * common)
    set_norm(norm, common, CONSTANT, left)


def set_norm(norm: nn.LayerNorm, common: Tensor, given: float, left: float) -> None:
    """A norm that passes contents on beside a constant ``given``, of which it leaves ``left``."""
    norm.weight.fill_(((given**2 + TYPICAL**2) / len(common)) ** 0.5)
    norm.bias.copy_((left - given) * common)


if __name__ == "__main__":
    main()
