"""Small models with weights that make a difference, and images of many sizes."""

import torch
from transformers import ResNetConfig, SwinConfig

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.models.options import in_place

_RESNET = {"embedding_size": 8, "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1]}
RESNET = ResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"])
# DETR's: one map, the coarsest.
DETR = {
    "backbone": ResNetConfig(**_RESNET, out_features=["stage4"]),
    "host": "detr",
    "num_levels": 1,
}
SWIN = SwinConfig(
    embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4], window_size=4,
    out_features=["stage2", "stage3", "stage4"],
)  # fmt: skip
SMALL = {
    "num_labels": 3,
    "d_model": 32,
    "attention_heads": 4,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "cascade": [1.0, 0.6, 0.3],
    "num_fine_tokens": 12,
    "num_queries": 20,
    "num_detections": 20,
    "denoising_queries": 10,
}


# As many layers as can differ from each other: an exporter takes seconds for each.
SHALLOW = {"encoder_layers": 2, "cascade": [1.0, 0.5], "decoder_layers": 1, "dtype": torch.float32}


def small_config(backbone=RESNET, **changes):
    return FocusDetrConfig(backbone_config=backbone, **in_place({**SMALL, **changes}))


def small_model(backbone=RESNET, seed=0, dtype=torch.float64, **changes):
    """Random weights of a size that spreads scores and boxes, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FocusDetrForObjectDetection(small_config(backbone, **changes)).to(dtype)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.startswith("backbone."):
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def reactivated_model(**changes):
    """One whose layers think less of tokens that they worked on, and of each otherwise: others come back."""
    model = small_model(policy_options={"reactivation": True}, **changes)
    with torch.no_grad():
        for rescorer in model.encoder.rescorers:
            rescorer.score[-1].weight.mul_(30)
            rescorer.score[-1].bias.sub_(5)
    return model


def image(height, width, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, height, width, generator=generator, dtype=dtype)


def batch(images, extra=(0, 0)):
    """Images padded right and below to one canvas, ``extra`` (height, width) larger than need be."""
    height = max(each.shape[1] for each in images) + extra[0]
    width = max(each.shape[2] for each in images) + extra[1]
    pixels = torch.zeros(len(images), 3, height, width, dtype=images[0].dtype)
    mask = torch.zeros(len(images), height, width, dtype=torch.long)
    for i, each in enumerate(images):
        pixels[i, :, : each.shape[1], : each.shape[2]] = each
        mask[i, : each.shape[1], : each.shape[2]] = 1
    return pixels, mask


def labels(counts, sizes, seed=0):
    """Random ground truth: ``counts`` objects an image of ``sizes`` (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for count, size in zip(counts, sizes, strict=True):
        centre = 0.3 + 0.4 * torch.rand(count, 2, generator=generator)
        extent = 0.1 + 0.4 * torch.rand(count, 2, generator=generator)
        classes = torch.randint(0, 3, (count,), generator=generator)
        boxes = torch.cat([centre, extent], 1)
        made.append({"class_labels": classes, "boxes": boxes, "size": torch.tensor(size)})
    return made
