"""The operator that takes queries' projections, against DeformableAttention's own formula."""

import pytest
import torch

from focus_detr.models.attention import DeformableAttention
from focus_detr.ops import (
    multi_scale_deformable_attention_of_projections,
    reference,
    takes_projections,
    use_backend,
)
from focus_detr.ops.cpu import library

try:
    library.load()
except OSError:
    pytest.skip("the CPU kernel is not built here", allow_module_level=True)

SHAPES = [(4, 5), (2, 3), (1, 1)]


def inputs(heads, width, points, numbers, dtype, queries=37):
    """References within and beyond the image, offsets of some pixels, logits far apart."""
    generator = torch.Generator().manual_seed(width + points)

    def draw(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    tokens = sum(height * width for height, width in SHAPES)
    references = draw(2, queries, len(SHAPES), numbers) * 0.3 + 0.5
    projections = draw(2, queries, 3 * heads * len(SHAPES) * points) * 3
    return draw(2, tokens, heads, width), references, projections


def formula(value, references, projections, points):
    heads = value.shape[2]
    reads = heads * len(SHAPES) * points
    attention = DeformableAttention(heads, heads, len(SHAPES), points)
    offsets, logits = projections.split([2 * reads, reads], -1)
    del attention.sampling_offsets, attention.attention_weights
    attention.__dict__.update(sampling_offsets=lambda _: offsets, attention_weights=lambda _: logits)
    return reference.grid_sample(value, SHAPES, *attention.sample(projections, references, SHAPES))


@pytest.mark.parametrize("instructions", library.INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("heads", "width", "points"), [(2, 5, 1), (3, 8, 4), (8, 16, 4), (1, 32, 3), (2, 64, 2)]
)
@pytest.mark.parametrize("numbers", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_the_formula(monkeypatch, instructions, heads, width, points, numbers, dtype):
    monkeypatch.setattr(library, "instruction_set", instructions)
    value, references, projections = inputs(heads, width, points, numbers, dtype)
    mine = multi_scale_deformable_attention_of_projections(value, SHAPES, references, projections, points)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    expected = formula(value, references, projections, points)
    torch.testing.assert_close(mine, expected, rtol=tolerance, atol=tolerance)


def test_half_values_are_summed_in_float32():
    value, references, projections = inputs(2, 16, 4, 2, torch.float32)
    value = value.bfloat16()
    mine = multi_scale_deformable_attention_of_projections(value, SHAPES, references, projections, 4)
    expected = formula(value.float(), references, projections, 4)
    assert mine.dtype == torch.bfloat16
    torch.testing.assert_close(mine.float(), expected, rtol=1e-2, atol=1e-2)


def test_what_is_not_a_number_does_not_pass_for_one():
    value, references, projections = inputs(2, 8, 2, 2, torch.float32)
    projections[0, 0, -1] = float("nan")  # a logit of the last head
    found = multi_scale_deformable_attention_of_projections(value, SHAPES, references, projections, 2)
    assert (
        found[0, 0, 8:].isnan().all() and found[0, 0, :8].isfinite().all() and found[0, 1:].isfinite().all()
    )


def test_logits_of_any_size():
    value, references, projections = inputs(2, 8, 2, 2, torch.float32)
    projections[..., -12:] *= 1000
    found = multi_scale_deformable_attention_of_projections(value, SHAPES, references, projections, 2)
    torch.testing.assert_close(found, formula(value, references, projections, 2), rtol=1e-4, atol=1e-4)


def test_no_queries_and_the_rules_of_torch():
    for queries in (0, 3):
        value, references, projections = inputs(2, 8, 2, 4, torch.float32, queries)
        flat = [size for shape in SHAPES for size in shape]
        arguments = (value, flat, references, projections, 2)
        torch.library.opcheck(torch.ops.focus_detr.msda_cpu_projected.default, arguments)


def test_is_there_only_where_it_serves():
    value = torch.zeros(1)
    assert not takes_projections(value)  # gradients are wanted
    with torch.no_grad():
        assert takes_projections(value) and takes_projections(value.double())
        assert not takes_projections(torch.zeros(1, device="meta"))
        with use_backend("reference"):
            assert not takes_projections(value)
