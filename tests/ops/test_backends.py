"""Every back end against the grid_sample form, forward and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focus_detr.ops import multi_scale_deformable_attention, reference, use_backend
from focus_detr.ops.cpu import library
from helpers.msda_cases import SHAPES, Case, case, needs_native, results

BACKENDS = ["reference", "gather", pytest.param("cpu", marks=needs_native)]


def check(args: Case, backend: str, tolerance: float = 1e-10) -> None:
    with use_backend(backend):
        found = results(multi_scale_deformable_attention, args)
    for part, want in zip(found, results(reference.grid_sample, args), strict=True):
        torch.testing.assert_close(part, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 2),
    queries=st.integers(0, 6),
    heads=st.integers(1, 3),
    width=st.sampled_from([1, 2, 3, 4, 7, 8, 16, 20, 32]),
    points=st.integers(1, 5),
    shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5).map(tuple),
    seed=st.integers(0, 2**16),
)
def test_any_shape_agrees(backend, batch, queries, heads, width, points, shapes, seed):
    check(case(batch, queries, heads, width, points, shapes, seed=seed), backend)


@needs_native
@pytest.mark.parametrize("instructions", library.INSTRUCTION_SETS)
@pytest.mark.parametrize("width", [5, 8, 16, 32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cpu_instruction_sets_agree(monkeypatch, instructions, width, dtype):
    monkeypatch.setattr(library, "instruction_set", instructions)
    # Few queries leave rows where they lie, many work on a dense copy of them.
    for queries in (3, 40):
        args = case(queries=queries, width=width, dtype=dtype)
        check(args, "cpu", 1e-10 if dtype == torch.float64 else 5e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_values_are_summed_in_float32(backend, dtype):
    args = case(queries=9, width=8, dtype=torch.float32)
    value = args.value.detach().to(dtype).requires_grad_()
    with use_backend(backend):
        found = results(multi_scale_deformable_attention, args._replace(value=value))
    exact = args._replace(value=value.detach().float().requires_grad_())
    with use_backend("reference"):
        want = results(multi_scale_deformable_attention, exact)
    assert found[0].dtype == found[1].dtype == dtype
    assert found[2].dtype == found[3].dtype == torch.float32
    rounding = torch.finfo(dtype).eps
    for part, exact_part in zip(found, want, strict=True):
        torch.testing.assert_close(part.float(), exact_part, rtol=2 * rounding, atol=4 * rounding)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_inputs_agree(backend):
    args = case(width=8)
    strided = Case(
        args.value.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(),
        args.shapes,
        args.locations.detach().flip(-1).contiguous().flip(-1).transpose(1, 2).contiguous().transpose(1, 2)
        .requires_grad_(),
        args.weights.detach().transpose(0, 4).contiguous().transpose(0, 4).requires_grad_(),
    )  # fmt: skip
    assert not strided.value.is_contiguous() and not strided.weights.is_contiguous()
    check(strided, backend)


@needs_native
def test_cpu_reads_nothing_at_locations_that_are_not_numbers():
    args = case(dtype=torch.float32)
    with use_backend("cpu"):
        found = results(multi_scale_deformable_attention, args._replace(
            locations=torch.full_like(args.locations, float("nan")).requires_grad_()
        ))  # fmt: skip
    assert all(not part.any() for part in found)


@needs_native
def test_cpu_results_do_not_depend_on_threads():
    args = case(batch=1, queries=3000, heads=4, width=8, points=4, dtype=torch.float32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4, 4):
            torch.set_num_threads(threads)
            with use_backend("cpu"):
                found.append(results(multi_scale_deformable_attention, args))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("queries", [4, 0])
def test_cpu_operators_keep_the_rules_of_torch(dtype, queries):
    args = case(queries=queries, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    value = args.value.detach().to(dtype).requires_grad_()
    flat = [size for shape in SHAPES for size in shape]
    inputs = (value, flat, args.locations, args.weights)
    torch.library.opcheck(torch.ops.focus_detr.msda_cpu.default, inputs)
    grad = torch.ones(args.weights.shape[0], queries, value.shape[2] * value.shape[3], dtype=dtype)
    backward = (grad, *(part.detach() if isinstance(part, torch.Tensor) else part for part in inputs))
    torch.library.opcheck(torch.ops.focus_detr.msda_cpu_backward.default, backward)
