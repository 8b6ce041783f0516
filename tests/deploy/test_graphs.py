"""What is recorded as a CUDA graph holds nothing of the host; tests/gpu replays it."""

import copy
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from focus_detr.deploy import deploy as deployment
from focus_detr.deploy import graphs
from focus_detr.deploy.deploy import deploy
from focus_detr.models import proposals
from focus_detr.structures import geometry
from helpers.host_traffic import HostTraffic
from helpers.pairs import PARAMETERS
from helpers.small_models import DETR, reactivated_model, small_model


class Lifted(TorchDispatchMode):
    """Counts the tensors made of numbers that the host has."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function._schema.name.startswith("aten::lift")
        return function(*args, **kwargs or {})


class Replayed:
    """Stands in for a graph, which only a GPU has: computes anew, and writes down that it was made."""

    made: list

    def __init__(self, run, images, setting, memory):
        self.run, self.setting = run, setting
        self.made.append((tuple(images.shape), setting))

    def __call__(self, images):
        return graphs.copied(self.run(images, self.setting))


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(Replayed, "made", [], raising=False)
    monkeypatch.setattr(graphs, "_Graph", Replayed)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "memory")
    return Replayed.made


def recorded(model):
    deployed = deploy(model)
    deployed._graphs = graphs.RecordedPasses(deployed._pass)
    return deployed


def pictures(count=1, height=96, width=128):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@contextmanager
def recording(monkeypatch):
    with monkeypatch.context() as patch:
        for module in (geometry, deployment, proposals):
            patch.setattr(module, "in_graph", lambda device: True)
        yield


@torch.no_grad()
@pytest.mark.parametrize("pair", PARAMETERS)
def test_a_recorded_pass_neither_asks_the_host_nor_copies_from_it(monkeypatch, pair):
    host, policy = pair
    changes = DETR if host == "detr" else {"host": host}
    model = deploy(small_model(**changes, token_policy=policy, dtype=torch.float32))
    expected = model(pictures())
    with recording(monkeypatch), HostTraffic() as traffic, Lifted() as lifted:
        found = model(pictures())
    assert not traffic.counts and lifted.count == 0
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.pred_boxes, expected.pred_boxes)


@torch.no_grad()
def test_nor_where_layers_and_queries_are_chosen_by_the_picture(monkeypatch):
    plain = reactivated_model(host_options={"query_threshold": 0.2}, dtype=torch.float32)
    plain.encoder.change_options(fine_share=0.3)
    model = deploy(plain)
    expected = model(pictures())
    queries = expected.logits.shape[1]
    with recording(monkeypatch), HostTraffic() as traffic, Lifted() as lifted:
        found = model(pictures())
    assert not traffic.counts and lifted.count == 0
    assert 1 < queries < found.logits.shape[1]
    torch.testing.assert_close(found.logits[:, :queries], expected.logits)
    kept = graphs.copied(found).plan
    for layer in range(3):
        assert torch.equal(kept.tokens(layer), expected.plan.tokens(layer))
        assert kept.tokens(layer).data_ptr() != found.plan.tokens(layer).data_ptr()


@torch.no_grad()
def test_what_is_not_recorded_takes_sizes_from_the_host():
    with Lifted() as lifted:
        small_model(dtype=torch.float32)(pictures())
    assert lifted.count > 0


@torch.no_grad()
def test_each_size_budget_and_number_of_layers_is_recorded_once(made):
    model = recorded(small_model(dtype=torch.float32))
    plain = deploy(small_model(dtype=torch.float32))
    images = pictures()
    for _ in range(2):
        for budget in (None, 0.2):
            assert torch.equal(
                model(images, budget=budget).pred_boxes, plain(images, budget=budget).pred_boxes
            )
        model(pictures(2))
    model(images, torch.ones(1, 96, 128, dtype=torch.long))
    model(images, decoder_layers=1)
    one, two = (1, 3, 96, 128), (2, 3, 96, 128)
    assert made == [(one, (None, None)), (one, (0.2, None)), (two, (None, None)), (one, (None, 1))]
    model.set_budget(0.2)
    model(images)
    assert len(made) == 4


@torch.no_grad()
def test_what_depends_on_the_picture_is_not_recorded(made):
    model = recorded(small_model(dtype=torch.float32))
    padded = torch.ones(1, 96, 128, dtype=torch.long)
    padded[:, 64:] = 0
    model(pictures(), padded)
    model(pictures(), with_samples=True)
    assert made == []


@torch.no_grad()
def test_moved_and_copied_models_record_anew(made):
    model = recorded(small_model(dtype=torch.float32))
    model(pictures())
    twin = copy.deepcopy(model)
    twin(pictures())
    assert twin._graphs._run.__self__ is twin
    model.to("cpu")
    model(pictures())
    assert len(made) == 3
