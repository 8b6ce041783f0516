"""How many decoder layers a call runs: the first ones, whose last has heads of its own and answers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from focus_detr.benchmarking import count_macs
from focus_detr.deploy.deploy import deploy as deployment
from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts import HOSTS
from helpers.small_models import DETR, batch, image, labels, small_config, small_model

DEEP = {"decoder_layers": 3}
FORMS = {
    "dino": {},
    "salience-detr": {"host": "salience-detr", "token_policy": "salience"},
    "deformable-detr": {"host": "deformable-detr", "token_policy": "dense"},
    "deformable-detr, refined": {
        "host": "deformable-detr", "host_options": {"two_stage": True, "box_refinement": True},
    },
    "dn-deformable-detr": {"host": "dn-deformable-detr", "token_policy": "dense"},
    "detr": {**DETR, "token_policy": "full-attention"},
}  # fmt: skip
PICTURES = [image(96, 128), image(70, 90, seed=1)]


def same(one, other):
    assert torch.equal(one.logits, other.logits) and torch.equal(one.pred_boxes, other.pred_boxes)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_fewer_layers_answer_as_a_model_that_has_no_more(form):
    model = small_model(**FORMS[form], **DEEP)
    pixels, mask = batch(PICTURES)
    for layers in (1, 2):
        shallow = small_model(**{**FORMS[form], "decoder_layers": layers})
        unused = shallow.load_state_dict(model.state_dict(), strict=False)
        assert not unused.missing_keys
        same(model(pixels, mask, decoder_layers=layers), shallow(pixels, mask))
    same(model(pixels, mask, decoder_layers=3), model(pixels, mask))


def test_every_host_of_the_package_is_among_those_tested():
    assert set(HOSTS.names()) == {name.partition(",")[0] for name in FORMS}


@torch.no_grad()
def test_losses_and_samples_are_of_the_layers_that_are_run():
    model = small_model(**DEEP)
    sizes = [(each.shape[1], each.shape[2]) for each in PICTURES]
    pixels, mask = batch(PICTURES)
    output = model(pixels, mask, labels([2, 1], sizes), decoder_layers=2, with_samples=True)
    assert len(output.samples) == 2
    assert {"loss_class", "loss_class_0"} <= set(output.loss_dict)
    assert "loss_class_1" not in output.loss_dict


@pytest.mark.parametrize("deployed", [False, True])
@torch.no_grad()
def test_threads_with_layers_of_their_own_do_not_disturb_each_other(deployed):
    model = small_model(**DEEP, dtype=torch.float32)
    model = deployment(model) if deployed else model
    pixels = image(96, 128, dtype=torch.float32)[None]
    wanted = {layers: model(pixels, decoder_layers=layers) for layers in (1, 2, 3)}
    assert not torch.equal(wanted[1].logits, wanted[2].logits)
    with ThreadPoolExecutor(3) as pool:
        asked = [1, 2, 3] * 4
        found = pool.map(lambda layers: model(pixels, decoder_layers=layers), asked)
        for layers, output in zip(asked, found, strict=True):
            torch.testing.assert_close(output.logits, wanted[layers].logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("deployed", [False, True])
@torch.no_grad()
def test_a_number_that_is_set_is_that_of_calls_that_say_none(deployed, tmp_path):
    model = small_model(**DEEP, dtype=torch.float32)
    pixels = image(96, 128, dtype=torch.float32)[None]
    two, three = model(pixels, decoder_layers=2), model(pixels)
    model.set_decoder_layers(2)
    model.save_pretrained(tmp_path)
    model = type(model).from_pretrained(tmp_path).eval()
    form = deployment(model) if deployed else model
    torch.testing.assert_close(form(pixels).logits, two.logits)
    torch.testing.assert_close(form(pixels, decoder_layers=3).logits, three.logits)
    model.set_decoder_layers(None)
    same(model(pixels), three)


@pytest.mark.parametrize("layers", [0, 4, -1, 2.0, True, "2"])
def test_what_is_no_number_of_its_layers_is_refused_with_those_that_would_be(layers):
    model = small_model(**DEEP)
    for refused in (
        lambda: model(PICTURES[0][None], decoder_layers=layers),
        lambda: model.set_decoder_layers(layers),
    ):
        with pytest.raises(FocusDetrError, match=f"decoder_layers={layers!r}.*from 1 to 3"):
            refused()
    assert model.config.used_decoder_layers is None


def test_a_configuration_with_more_than_there_are_is_refused():
    with pytest.raises(FocusDetrError, match="used_decoder_layers=3: .*from 1 to 2"):
        small_config(used_decoder_layers=3)


def test_training_teaches_every_layer_and_refuses_a_number():
    model = small_model(**DEEP, used_decoder_layers=1).train()
    taught = labels([2], [(96, 128)])
    assert "loss_class_1" in model(PICTURES[0][None], labels=taught).loss_dict
    with pytest.raises(FocusDetrError, match="decoder_layers=2: training teaches every layer"):
        model(PICTURES[0][None], labels=taught, decoder_layers=2)


def test_a_host_that_runs_all_its_layers_says_so(monkeypatch):
    model = small_model(**DEEP)
    monkeypatch.setattr(type(model.host), "takes_layers", False)
    with pytest.raises(FocusDetrError, match="host='dino' runs all its decoder layers"):
        model(PICTURES[0][None], decoder_layers=2)


@pytest.mark.slow
def test_operations_are_those_of_the_layers_that_are_run():
    used, built = (
        count_macs(small_config(**fields), 96, 128)
        for fields in ({**DEEP, "used_decoder_layers": 1}, {"decoder_layers": 1})
    )
    assert used.decoder == built.decoder < count_macs(small_config(**DEEP), 96, 128).decoder
