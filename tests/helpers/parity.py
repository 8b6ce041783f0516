"""Comparing with the originals' fixtures: images as their DETRs take them, and the noise that they drew."""

import json
import re

import torch

from focus_detr.structures.queries import DenoisingQueries
from helpers.checkpoints import DATA

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]


def normalised(image):
    return (image.double() / 255 - MEAN) / STD


def tensors_of(tensors, part):
    """Those of one part of a fixture, as "eval0"."""
    start = f"{part}."
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def close(actual, expected, atol):
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol)


def drawn_denoising(model, golden):
    """The denoising queries that the original drew: by class, so that the table gets its gradient."""
    classes = golden["dn_labels"].long()
    content = model.host.label_embedding(classes.clamp(min=0)).masked_fill(classes[..., None] < 0, 0.0)
    slots, groups = golden["dn_meta"].tolist()
    return DenoisingQueries(content, golden["dn_query_box"], slots, groups)


def check_losses(output, golden, rename):
    """Every loss of the original, by our name of it, and their sum."""
    expected = {rename(key[5:]): value for key, value in golden.items() if key.startswith("loss.")}
    assert output.loss_dict.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(output.loss_dict[key], value, rtol=1e-9, atol=0, msg=key)
    torch.testing.assert_close(output.loss, sum(expected.values()), rtol=1e-9, atol=0)


def check_gradients(model, golden, name, report, unaliased):
    """The norm of each parameter's gradient.

    A head that all layers share is a head for each of them here: its gradient is the sum of theirs.

    Args:
        unaliased: the name in the checkpoint of a parameter of theirs.
    """
    keys = json.loads((DATA / f"{name}.train0.grad_keys.json").read_text())
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for key, value in zip(keys, golden["grad_norms"], strict=True):
        (ours,) = report.renamed[unaliased(key)]
        copies = [note.split(":")[0] for note in report.notes if "copied from the head" in note]
        alike = [each for each in copies if re.sub(r"_heads\.\d+", "_heads.0", each) == ours]
        norm = torch.stack([gradients[each] for each in (ours, *alike)]).sum(0).norm()
        torch.testing.assert_close(norm, value, rtol=1e-8, atol=1e-9, msg=f"{key}: {norm} {value}")
