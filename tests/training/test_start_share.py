"""A share of the weights that a run started from stays in what it evaluates and saves."""

import pytest
import torch
from safetensors.torch import load_file

from focus_detr.errors import FocusDetrError
from focus_detr.training import train
from focus_detr.training.start_share import StartShare
from helpers.tiny_training import finish, losses, small_focus_detr, start, tiny_detector


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_mixed_weights_lie_between_and_neither_model_is_changed():
    one, other = tiny_detector(seed=0), tiny_detector(seed=1)
    expected = {
        name: 0.25 * weight + 0.75 * other.state_dict()[name] for name, weight in one.state_dict().items()
    }
    before = {name: weight.clone() for name, weight in other.state_dict().items()}
    share = StartShare(one, 0.25)
    with torch.no_grad():
        for parameter in one.parameters():  # the run goes on with it
            parameter.zero_()
    mixed = share.mixed(other)
    torch.testing.assert_close(mixed.state_dict(), expected)
    torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder to go on from."""
    folder = tmp_path_factory.mktemp("trained")
    small_focus_detr().save_pretrained(folder)
    from focus_detr.images.processor import FocusDetrImageProcessor

    FocusDetrImageProcessor(size={"shortest_edge": 32, "longest_edge": 32}).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_run_saves_the_mixture_and_resumes_exactly(tiny_data, trained, tmp_path):
    def options(share):
        changes = {"epochs": 2, "workers": 0, "start_share": share, "ema_decay": 0.0}
        return {"model": str(trained), "overrides": changes}

    plain, kept, killed = (tmp_path / name for name in ("plain", "kept", "killed"))
    finish(start(tiny_data, plain, **options(0.0)))
    finish(start(tiny_data, kept, **options(0.5)))
    assert losses(plain) == losses(kept)  # the training itself is the same
    begun, ended, mixed = weights(trained), weights(plain / "last"), weights(kept / "last")
    assert any(not torch.equal(begun[name], ended[name]) for name in begun)
    for name in begun:
        torch.testing.assert_close(mixed[name], (begun[name] + ended[name]) / 2)
    finish(start(tiny_data, killed, die_at=5, **options(0.5)), killed=True)
    finish(start(tiny_data, killed, resume=True, **options(0.5)))
    again = weights(killed / "last")
    assert all(torch.equal(again[name], mixed[name]) for name in mixed)


def test_random_numbers_are_not_kept(tiny_data, trained, tmp_path):
    changes = {"start_share": 0.5, "epochs": 1}
    with pytest.raises(FocusDetrError, match="start_share=0.5: no trained model .* set it to 0, or name one"):
        train(tiny_data, model="focus-detr-lite0", output=tmp_path / "a", overrides=changes, device="cpu")
    other = small_focus_detr(classes=["cat", "horse"])
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "preprocessor_config.json").write_bytes(
        (trained / "preprocessor_config.json").read_bytes()
    )
    with pytest.raises(FocusDetrError, match="class_head.* would keep a share of random numbers"):
        train(
            tiny_data, model=str(tmp_path / "other"), output=tmp_path / "b", overrides=changes, device="cpu"
        )
