"""The Triton kernels, on the GPU or through Triton's interpreter. Run by test_triton.py."""

import pytest
import torch

from focus_detr.ops import multi_scale_deformable_attention, reference, triton, use_backend
from helpers.msda_cases import Case, case, results

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on_device(args: Case) -> Case:
    value, locations, weights = (
        part.detach().to(DEVICE).requires_grad_() for part in (args.value, args.locations, args.weights)
    )
    return Case(value, args.shapes, locations, weights)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"batch": 1, "queries": 35, "heads": 1, "width": 4, "points": 1, "shapes": ((3, 2),)},
        {"batch": 1, "heads": 3, "width": 5, "points": 3, "shapes": ((3, 4), (1, 1))},
        {
            "batch": 1,
            "heads": 1,
            "width": 4,
            "points": 1,
            "shapes": ((16, 3), (8, 2), (5, 4), (1, 2), (3, 1), (2, 2)),
        },
        {"queries": 0},
        {"batch": 0},
    ],
)
def test_agrees_with_the_definition(sizes):
    args = on_device(case(dtype=torch.float32, **sizes))
    with use_backend("triton"):
        found = results(multi_scale_deformable_attention, args)
    for part, want in zip(found, results(reference.grid_sample, args), strict=True):
        torch.testing.assert_close(part, want, rtol=5e-4, atol=5e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_values_are_summed_in_float32(dtype):
    args = on_device(case(batch=1, points=1, dtype=torch.float32))
    value = args.value.detach().to(dtype).requires_grad_()
    with use_backend("triton"):
        found = results(multi_scale_deformable_attention, args._replace(value=value))
    want = results(reference.grid_sample, args._replace(value=value.detach().float().requires_grad_()))
    assert found[0].dtype == found[1].dtype == dtype and found[2].dtype == torch.float32
    rounding = torch.finfo(dtype).eps
    for part, exact in zip(found, want, strict=True):
        torch.testing.assert_close(part.float(), exact, rtol=2 * rounding, atol=4 * rounding)


def test_operator_keeps_the_rules_of_torch():
    args = on_device(case(batch=1, queries=2, heads=1, points=1, shapes=((2, 3),), dtype=torch.float32))
    flat = [size for shape in args.shapes for size in shape]
    torch.library.opcheck(
        triton.msda_triton, (args.value, flat, args.locations, args.weights),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )  # fmt: skip
