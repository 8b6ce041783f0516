"""Foreign state dicts of the right names and shapes, at no cost in memory."""

import json
from pathlib import Path

import torch

DATA = Path(__file__).parent.parent / "data" / "parity"
NAMES = sorted(path.name.removesuffix(".layout.json") for path in DATA.glob("*.layout.json"))
DETREX = [name for name in NAMES if name.startswith(("focus", "dino"))]


def tensor(shape, value=0.0):
    return torch.full((), value, dtype=torch.float16).expand(*shape)


def detrex_state(name):
    layout = json.loads((DATA / f"{name}.layout.json").read_text())
    return {key: tensor(shape) for key, (shape, _) in layout.items()}


def detrex_deformable_state(two_stage, refined):
    """detrex' Deformable DETR, from its DINO: the parts they share, and its own queries."""
    state = detrex_state("dino_r50")
    unlike = ["transformer.decoder.norm.", "transformer.decoder.ref_point_head."]
    unlike += ["transformer.tgt_embed", "label_enc"]
    if not two_stage:
        unlike += ["transformer.enc_output", "class_embed.6", "bbox_embed.6"]
        unlike += ["transformer.decoder.class_embed", "transformer.decoder.bbox_embed.6"]
        state["query_embedding.weight"] = tensor((300, 512))
        state |= {f"transformer.reference_points.{name}": tensor((2, 256)[: 2 - (name == "bias")])
                  for name in ("weight", "bias")}  # fmt: skip
    else:
        for name, shape in (("pos_trans", (512, 512)), ("pos_trans_norm", (512,))):
            state[f"transformer.{name}.weight"] = tensor(shape)
            state[f"transformer.{name}.bias"] = tensor((512,))
    if not refined:
        unlike.append("transformer.decoder.bbox_embed")
    return {key: value for key, value in state.items() if not key.startswith(tuple(unlike))}


def with_levels(state, maps, levels):
    """A model of Deformable DETR's or DINO's original code, on other maps of ResNet-50 and other levels."""
    state = {key: value for key, value in state.items() if not key.startswith("input_proj.")}
    for key, value in state.items():
        if "sampling_offsets" in key or "attention_weights" in key:
            state[key] = tensor((len(value) * levels // 4, *value.shape[1:]))
    state["transformer.level_embed"] = tensor((levels, 256))
    for level in range(levels):
        width = 2048 >> max(maps - 1 - level, 0) if level <= maps else 256
        kernel = 1 if level < maps else 3
        state[f"input_proj.{level}.0.weight"] = tensor((256, width, kernel, kernel))
        for name in ("0.bias", "1.weight", "1.bias"):
            state[f"input_proj.{level}.{name}"] = tensor((256,))
    return state


def single_stage(state):
    """The original Deformable DETR with learned queries, of its two-stage form."""
    unlike = ("transformer.pos_trans", "transformer.enc_output", "transformer.decoder.class_embed")
    unlike += ("transformer.decoder.bbox_embed", "class_embed.6", "bbox_embed.6")
    state = {key: value for key, value in state.items() if not key.startswith(unlike)}
    points = {"weight": tensor((2, 256)), "bias": tensor((2,))}
    state |= {f"transformer.reference_points.{name}": value for name, value in points.items()}
    return state | {"query_embed.weight": tensor((300, 512))}


def dn_deformable_state():
    """detrex' DN-Deformable-DETR: what its DINO has, but for the parts of the first stage."""
    state = detrex_state("dino_r50")
    unlike = ("transformer.enc_output", "class_embed.6", "bbox_embed.6", "transformer.decoder.norm.")
    unlike += ("transformer.decoder.class_embed", "transformer.decoder.bbox_embed.6")
    unlike += ("transformer.tgt_embed", "label_enc")
    state = {key: value for key, value in state.items() if not key.startswith(unlike)}
    for layer in range(2):
        state[f"transformer.decoder.query_scale.layers.{layer}.weight"] = tensor((256, 256))
        state[f"transformer.decoder.query_scale.layers.{layer}.bias"] = tensor((256,))
    return state | {
        "tgt_embed.weight": tensor((300, 255), 1.0),
        "refpoint_embed.weight": tensor((300, 4), 2.0),
        "denoising_generator.label_encoder.weight": tensor((81, 255), 3.0),
    }


def dino_state(swin=False):
    """The original DINO with R50 (or Swin-T) and 91 class rows, written from the names of its code."""
    shapes = dict(_swin_tiny() if swin else resnet50("backbone.0.body."))

    def linear(name, out, width):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, width), (out,)

    def norm(name):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (256,), (256,)

    def deformable(name):
        linear(f"{name}.sampling_offsets", 256, 256)
        linear(f"{name}.attention_weights", 128, 256)
        linear(f"{name}.value_proj", 256, 256)
        linear(f"{name}.output_proj", 256, 256)

    def box_mlp(name):
        linear(f"{name}.layers.0", 256, 256)
        linear(f"{name}.layers.1", 256, 256)
        linear(f"{name}.layers.2", 4, 256)

    widths = (192, 384, 768) if swin else (512, 1024, 2048)
    for level, width in enumerate((*widths, widths[-1])):
        kernel = (3, 3) if level == 3 else (1, 1)
        shapes[f"input_proj.{level}.0.weight"] = (256, width, *kernel)
        shapes[f"input_proj.{level}.0.bias"] = (256,)
        norm(f"input_proj.{level}.1")
    shapes["transformer.level_embed"] = (4, 256)
    shapes["transformer.tgt_embed.weight"], shapes["label_enc.weight"] = (900, 256), (92, 256)
    linear("transformer.enc_output", 256, 256)
    norm("transformer.enc_output_norm")
    linear("transformer.enc_out_class_embed", 91, 256)
    box_mlp("transformer.enc_out_bbox_embed")
    linear("transformer.decoder.ref_point_head.layers.0", 256, 512)
    linear("transformer.decoder.ref_point_head.layers.1", 256, 256)
    norm("transformer.decoder.norm")
    for layer in range(6):
        encoder, decoder = f"transformer.encoder.layers.{layer}", f"transformer.decoder.layers.{layer}"
        deformable(f"{encoder}.self_attn")
        deformable(f"{decoder}.cross_attn")
        shapes[f"{decoder}.self_attn.in_proj_weight"] = (768, 256)
        shapes[f"{decoder}.self_attn.in_proj_bias"] = (768,)
        linear(f"{decoder}.self_attn.out_proj", 256, 256)
        for name in (f"{encoder}.norm1", f"{encoder}.norm2", *(f"{decoder}.norm{n}" for n in (1, 2, 3))):
            norm(name)
        for name in (encoder, decoder):
            linear(f"{name}.linear1", 2048, 256)
            linear(f"{name}.linear2", 256, 2048)
        for name in (f"class_embed.{layer}", f"transformer.decoder.class_embed.{layer}"):
            linear(name, 91, 256)
        for name in (f"bbox_embed.{layer}", f"transformer.decoder.bbox_embed.{layer}"):
            box_mlp(name)
    return {key: tensor(shape) for key, shape in shapes.items()}


def resnet50(prefix=""):
    """Names and shapes of torchvision's and timm's ResNet-50."""

    def conv(name, norm, out, width, kernel):
        yield f"{prefix}{name}.weight", (out, width, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{prefix}{norm}.{part}", (out,)

    yield from conv("conv1", "bn1", 64, 3, 7)
    width = 64
    for stage, depth in enumerate((3, 4, 6, 3), start=1):
        inner, out = 32 * 2**stage, 128 * 2**stage
        for block in range(depth):
            name = f"layer{stage}.{block}"
            yield from conv(f"{name}.conv1", f"{name}.bn1", inner, width, 1)
            yield from conv(f"{name}.conv2", f"{name}.bn2", inner, inner, 3)
            yield from conv(f"{name}.conv3", f"{name}.bn3", out, inner, 1)
            if block == 0:
                yield from conv(f"{name}.downsample.0", f"{name}.downsample.1", out, width, 1)
            width = out


def _swin_tiny():
    for key, value in detrex_state("focus_detr_swin_tiny_224").items():
        if key.startswith("backbone."):
            yield key.replace("backbone.", "backbone.0.", 1), tuple(value.shape)
