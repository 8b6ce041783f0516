import pytest
import torch

from focus_detr.ops import reference
from helpers.msda_cases import case

FORMS = [reference.embedding_bag, reference.gather, reference.grid_sample]


@pytest.mark.parametrize("form", FORMS)
def test_one_pixel_read_at_its_centre(form):
    value = torch.arange(6, dtype=torch.float64).view(1, 6, 1, 1)
    centre = torch.tensor([2.5 / 3, 1.5 / 2], dtype=torch.float64).view(1, 1, 1, 1, 1, 2)
    weight = torch.full((1, 1, 1, 1, 1), 2.0, dtype=torch.float64)
    assert form(value, [(2, 3)], centre, weight).item() == pytest.approx(10.0)


@pytest.mark.parametrize("form", FORMS)
def test_half_outside_reads_half(form):
    value, weight = torch.ones(1, 6, 1, 1), torch.ones(1, 1, 1, 1, 1)
    border = torch.tensor([0.0, 0.5]).view(1, 1, 1, 1, 1, 2)
    assert form(value, [(2, 3)], border, weight).item() == pytest.approx(0.5)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_the_formula(form):
    args = case(batch=1, queries=2, width=3, points=1, shapes=((2, 3), (1, 1)))
    assert torch.autograd.gradcheck(
        lambda value, locations, weights: form(value, args.shapes, locations, weights),
        (args.value, args.locations, args.weights),
    )


@pytest.mark.parametrize("far", [1e30, -1e30])
@pytest.mark.parametrize("form", [reference.embedding_bag, reference.gather])
def test_locations_far_away_read_zero(form, far):
    args = case(queries=1, dtype=torch.float32)
    result = form(args.value, args.shapes, torch.full_like(args.locations, far), args.weights)
    assert torch.equal(result, torch.zeros_like(result))


def test_chunks_of_queries_give_the_same_sums():
    args = case(batch=2, queries=2 * reference._QUERIES_AT_ONCE + 3)
    whole = reference.embedding_bag(*args)
    with torch.no_grad():
        chunked = reference.embedding_bag(*args)
    assert torch.equal(chunked, whole)
