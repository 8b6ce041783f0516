"""The guide's own head works as it says: with any host, trained, saved, alone as in a batch."""

import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.errors import FocusDetrError
from helpers.guides import module, python_of
from helpers.small_models import DETR, batch, image, labels, small_config, small_model

SHAPES = [(96, 80), (64, 96)]


@pytest.fixture
def head(tmp_path, monkeypatch):
    source = python_of("new-head.md")[0]
    assert len(source.splitlines()) < 50
    with module("area_head", source, tmp_path, monkeypatch) as name:
        yield name


def with_area(name, **changes):
    return small_model(plugins=[name], heads=["area"], **changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"host": "deformable-detr", "token_policy": "dense"}, {"host": "dn-deformable-detr"}, {**DETR}],
    ids=["dino", "deformable", "dn-deformable", "detr"],
)
@pytest.mark.parametrize("counts", [(2, 1), (0, 0)])
def test_it_is_trained_with_every_host(head, changes, counts):
    if changes.get("host") == "detr":
        changes = {**changes, "token_policy": "full-attention"}
    model = with_area(head, **changes).train()
    pixels, mask = batch([image(*shape, seed=i) for i, shape in enumerate(SHAPES)])
    output = model(pixels, mask, labels(counts, SHAPES))
    assert output.extra["area"].shape == output.logits.shape[:2]
    output.loss.backward()
    assert output.loss_dict["loss_area"].isfinite() and "loss_area" in output.loss_dict
    for name, parameter in model.heads.named_parameters():
        assert parameter.grad.isfinite().all() and bool(parameter.grad.any()) == any(counts), name


def test_its_loss_falls_as_it_is_taught(head):
    model = with_area(head, head_options={"area": {"coefficient": 2.0}}).train()
    optimizer = torch.optim.Adam(model.heads.parameters(), lr=0.05)
    wanted = labels([2, 1], SHAPES)
    pixels, mask = batch([image(*shape, seed=i) for i, shape in enumerate(SHAPES)])
    losses = []
    for _ in range(30):
        torch.manual_seed(0)
        loss = model(pixels, mask, wanted).loss_dict["loss_area"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@torch.no_grad()
def test_an_image_alone_has_what_it_has_in_a_batch(head):
    model = with_area(head)
    pictures = [image(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    together = model(*batch(pictures)).extra["area"]
    for i, picture in enumerate(pictures):
        alone = model(picture[None]).extra["area"]
        torch.testing.assert_close(together[i, : alone.shape[1]], alone[0], rtol=0, atol=1e-9)


@torch.no_grad()
def test_it_is_saved_with_the_model_and_changes_nothing_else(head, tmp_path):
    model, plain = with_area(head, dtype=torch.float32), small_model(dtype=torch.float32)
    picture = image(64, 96, dtype=torch.float32)[None]
    assert plain(picture).extra is None and not [key for key in plain.state_dict() if "heads.area" in key]
    model.save_pretrained(tmp_path / "saved")
    loaded = FocusDetrForObjectDetection.from_pretrained(tmp_path / "saved", trust_plugins=True)
    one, other = model(picture), loaded(picture)
    assert torch.equal(one.extra["area"], other.extra["area"]) and torch.equal(one.logits, other.logits)


def test_options_and_names_are_strict(head):
    with pytest.raises(FocusDetrError, match="heads='aera': not known .did you mean 'area'"):
        small_config(plugins=[head], heads=["aera"])
    with pytest.raises(FocusDetrError, match="head_options: unknown key 'coeficient'"):
        small_config(plugins=[head], heads=["area"], head_options={"area": {"coeficient": 1.0}})
    with pytest.raises(FocusDetrError, match="must not be negative"):
        small_config(plugins=[head], heads=["area"], head_options={"area": {"coefficient": -1.0}})
    with pytest.raises(FocusDetrError, match=r"head_options: 'area' is none of heads=\[\]"):
        small_config(plugins=[head], head_options={"area": {}})


def test_the_guide_s_lines_run(head):
    names = {"FocusDetrConfig": FocusDetrConfig, "FocusDetrForObjectDetection": FocusDetrForObjectDetection}
    with torch.no_grad():
        exec(python_of("new-head.md")[1], {**names, "pixel_values": torch.zeros(1, 3, 64, 96)})
