"""What a name may mean: a model here, one of the hub, or nothing."""

from pathlib import Path

import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.zoo.resolve import resolve_model


@pytest.fixture
def asked(monkeypatch):
    """What the hub is asked for."""
    import huggingface_hub

    names = []

    def snapshot(name, **options):
        names.append(name)
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return names


@pytest.mark.parametrize(
    "name",
    ["runs/mine", "outputs/x", "work/model", "owner/m.onnx", "./a/b", "~/a", "a/b/c", "work/model.pth"],
)
def test_a_place_that_is_not_there_is_no_question_to_the_hub(name, asked, tmp_path, monkeypatch):
    (tmp_path / "work" / "models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    hint = "did you mean 'work/models'" if name.startswith("work/model") else name
    with pytest.raises(FocusDetrError, match=hint):
        resolve_model(name)
    with pytest.raises(FocusDetrError, match="not found"):
        resolve_model(tmp_path / name)
    with pytest.raises(FocusDetrError, match="not found"):
        resolve_model(Path("owner/name"))
    assert asked == []


def test_an_id_of_the_hub_is_asked_for_and_that_is_said(asked, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    with pytest.raises(FocusDetrError, match="'owner/name': not a folder here.*offline"):
        resolve_model("owner/name")
    assert asked == ["owner/name"]
    assert "owner/name: no folder here; asking the Hugging Face hub" in caplog.text


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "\ud800", "", "/", "~nobody/x"])
def test_names_that_are_none_are_errors_of_ours(name, asked):
    with pytest.raises(FocusDetrError):
        resolve_model(name)
