import os
import subprocess
import sys
import warnings

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.ops import describe_backends, dispatch, multi_scale_deformable_attention, use_backend
from focus_detr.ops.cpu import library
from helpers.msda_cases import SHAPES, case, needs_native


@pytest.fixture
def no_library(monkeypatch):
    """As if the CPU kernel had never been built."""

    def missing():
        raise OSError("the compiled library is not there")

    monkeypatch.setattr(library, "load", missing)
    for cached in (dispatch._cpu_problem, dispatch._warn_once):
        cached.cache_clear()
    yield
    for cached in (dispatch._cpu_problem, dispatch._warn_once):
        cached.cache_clear()


def test_missing_library_falls_back_with_one_warning(no_library):
    args = case()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [multi_scale_deformable_attention(*args) for _ in range(3)]
    assert [str(w.message) for w in caught] == [
        "deformable attention runs in plain torch, slower: the compiled library is not there"
    ]
    with use_backend("reference"):
        assert torch.equal(found[0], multi_scale_deformable_attention(*args))
    active = {backend.name: backend for backend in describe_backends() if backend.active}
    assert list(active) == ["reference"]


def test_library_of_another_interface_is_refused(monkeypatch):
    monkeypatch.setattr(library, "_VERSION", -1)
    library.load.cache_clear()
    try:
        with pytest.raises(OSError, match="focus_detr.ops.cpu.build"):
            library.load()
    finally:
        library.load.cache_clear()


@needs_native
def test_native_is_the_choice_on_a_cpu():
    backends = {backend.name: backend for backend in describe_backends()}
    assert backends["cpu"].active and backends["cpu"].available
    assert library.best_instruction_set() in backends["cpu"].reason
    assert [name for name, backend in backends.items() if backend.active] == ["cpu"]


def test_forcing_is_undone_and_nests():
    with use_backend("gather"):
        with use_backend("grid_sample"):
            assert next(b for b in describe_backends() if b.active).name == "grid_sample"
        assert next(b for b in describe_backends() if b.active).name == "gather"
    assert dispatch._forced.get() is None


def test_unknown_name_is_refused():
    with pytest.raises(FocusDetrError, match="'cuda'.*reference, gather"), use_backend("cuda"):
        pass


def test_environment_variable_forces():
    code = "from focus_detr.ops import dispatch; print(dispatch._forced.get())"
    environment = {**os.environ, dispatch.ENVIRONMENT_VARIABLE: "gather"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "gather"


def test_unknown_name_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setattr(dispatch._forced, "default", "quick")  # read from the environment at import
    with pytest.raises(FocusDetrError, match="'quick' .FOCUS_DETR_MSDA"):
        multi_scale_deformable_attention(*case())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shapes": ((4, 5), (2, 3))}, r"value has shape \(2, 27, 2, 8\).*N=26"),
        ({"weights": torch.zeros(2, 5, 3, 3, 2)}, r"attention_weights has shape.*h=2"),
        ({"locations": torch.zeros(2, 5, 2, 3, 1, 2)}, r"sampling_locations has shape.*\(2, 5, 2, 3, 2, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, words):
    with pytest.raises(FocusDetrError, match=words):
        multi_scale_deformable_attention(*case()._replace(**change))


@pytest.mark.parametrize("name", [None, "reference", "gather", "grid_sample"])
def test_compiles_in_one_graph(name):
    args = case(dtype=torch.float32)
    with use_backend(name):
        compiled = torch.compile(multi_scale_deformable_attention, backend="aot_eager", fullgraph=True)
        out = compiled(*args)
        grads = torch.autograd.grad(out.square().sum(), (args.value, args.locations, args.weights))
        want = multi_scale_deformable_attention(*args)
        wanted = torch.autograd.grad(want.square().sum(), (args.value, args.locations, args.weights))
    torch.testing.assert_close((out, *grads), (want, *wanted), rtol=1e-3, atol=1e-3)


class Module(torch.nn.Module):
    def forward(self, value, locations, weights):
        return multi_scale_deformable_attention(value, SHAPES, locations, weights)


@pytest.mark.parametrize(("name", "operator"), [(None, "grid_sampler"), ("gather", "index_select")])
def test_exports_to_plain_operators(name, operator):
    args = case(dtype=torch.float32)
    inputs = (args.value.detach(), args.locations.detach(), args.weights.detach())
    with use_backend(name):
        program = torch.export.export(Module(), inputs, dynamic_shapes=({0: torch.export.Dim("batch")},) * 3)
    assert operator in program.graph_module.code and "msda" not in program.graph_module.code
    bigger = [torch.cat([part, part + 0.01]) for part in inputs]
    torch.testing.assert_close(program.module()(*bigger), Module()(*bigger), rtol=1e-4, atol=1e-5)


@needs_native
def test_export_keeps_the_native_operator_when_forced():
    args = case(dtype=torch.float32)
    inputs = (args.value.detach(), args.locations.detach(), args.weights.detach())
    with use_backend("cpu"):
        program = torch.export.export(Module(), inputs)
    assert "msda_cpu" in program.graph_module.code
    torch.testing.assert_close(program.module()(*inputs), Module()(*inputs))


def test_autocast_gives_the_dtype_of_the_value():
    args = case(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = multi_scale_deformable_attention(args.value.bfloat16(), SHAPES, args.locations, args.weights)
    assert out.dtype == torch.bfloat16
