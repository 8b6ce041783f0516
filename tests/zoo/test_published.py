"""The table of published checkpoints is whole, and its names are models wherever one is named."""

import json
import re
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import focus_detr.convert
from focus_detr import FocusDetr, FocusDetrConfig, FocusDetrError, list_models
from focus_detr.cli import app
from focus_detr.convert import layouts
from focus_detr.convert.coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from focus_detr.models.backbones.catalogue import list_backbones
from focus_detr.training.finetuning import load_for_finetuning
from focus_detr.zoo import listing, published
from focus_detr.zoo.fetching import RECORD, fetch
from focus_detr.zoo.presets import is_preset
from focus_detr.zoo.published import Published, find_published, list_published, published_models
from focus_detr.zoo.resolve import resolve_model
from helpers.fake_detector import picture
from helpers.file_server import File, FileServer
from helpers.layouts import detrex_deformable_state, detrex_state, dino_state, dn_deformable_state

MODELS = list(published_models().values())
NAMES = [model.name for model in MODELS]
KNOWN = {value.name for value in vars(layouts).values() if isinstance(value, layouts.Layout)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCUS_DETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_a_row_says_what_downloading_and_converting_need(model):
    assert re.fullmatch(r"[a-z][a-z0-9.-]+-coco", model.name)
    assert model.address.startswith("https://") and model.file_name.endswith((".pth", ".zip", ".safetensors"))
    assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", model.sha256 or "0" * 8)
    assert 0.3 < model.ap < 0.7 and (model.epochs is None or 10 < model.epochs <= 500)
    assert model.hub is None or re.fullmatch(r"[0-9a-f]{40}", model.revision)
    if model.unusable is None:
        assert model.layout in KNOWN
        # Ours is taken from its own configuration at the hub.
        assert model.hub is not None or model.backbone in list_backbones()
        assert set(model.policy_options) <= {"keep_ratio", "high_levels"}


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_a_row_agrees_with_the_names_of_it_and_of_its_file(model):
    """Figures copied by hand: epochs, backbones and scales that a name says are those of the file."""
    said = re.search(r"-(\d+)ep-", model.name)
    assert (said is None) == (model.epochs is None)
    assert said is None or int(said[1]) == model.epochs
    in_file = re.search(r"_(\d+)ep", model.file_name)
    if in_file and not model.note:
        assert int(in_file[1]) == model.epochs
    for word in (
        "101",
        "5scale",
        "300dn",
        "two_stage",
        "swin",
        "22k",
        "dc5",
        "scrl",
        "384",
        "small",
        "base_384",
    ):
        if word in model.file_name.replace("backbone_", "").replace("swint", "swin"):
            assert word.replace("_", "-") in model.name or word == "384" and "large" in model.name
    kept = re.search(r"-keep(\d+)-", model.name)
    assert (kept is None) == ("keep_ratio" not in model.policy_options)
    assert kept is None or int(kept[1]) / 100 == model.policy_options["keep_ratio"]
    if kept:
        assert model.file_name.endswith(f"_{kept[1]}.pth")
    scales = re.search(r"_s(\d)ex(\d)_", model.file_name)  # Lite-DETR's: levels that are high, and blocks
    if scales:
        assert f"-h{scales[1]}l{4 - int(scales[1])}-x{scales[2]}-" in model.name
        assert model.policy_options == {"high_levels": int(scales[1])}
    if model.sha256 and re.search(r"-[0-9a-f]{8}\.pth", model.file_name):  # as torch's hub names files
        assert model.sha256[:8] in model.file_name


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_the_position_encoding_is_that_of_the_schedule(model):
    """detrex' Focus-DETR and DINO of 24 and 36 epochs on ResNets have another one than their layout's."""
    long = "detrex" in model.layout and "resnet" in (model.backbone or "") and model.epochs in (24, 36)
    assert (model.temperature, model.offset) == ((20, 0) if long else (None, None))


def test_no_name_means_two_things():
    assert not set(NAMES) & set(list_models()) and not any(map(is_preset, NAMES))
    addresses = [model.address + model.file for model in MODELS]
    assert len(set(addresses)) == len(addresses)


def test_a_row_without_an_address_or_with_an_unknown_key_is_refused():
    row = dict(
        name="x", family="", layout="", file="", read_in="", licence="", licence_of="", data="", ap=0.1
    )
    with pytest.raises(FocusDetrError, match="needs one of base, page and hub"):
        Published(**row)
    with pytest.raises(TypeError, match="adress"):
        Published(**row, adress="https://")


def test_an_unknown_name_is_told_its_neighbour():
    with pytest.raises(FocusDetrError, match="did you mean 'dino-swin-large-384-36ep-coco'"):
        find_published("dino-swin-large-36ep-coco")
    with pytest.raises(FocusDetrError, match="not found .did you mean 'focus-detr-r50-36ep-coco'"):
        resolve_model("focus-detr-r50-36ep-cocoo")


def test_a_preset_named_where_weights_are_needed_is_told_published_ones():
    with pytest.raises(FocusDetrError, match="take published weights: focus-detr-r50-36ep-coco"):
        resolve_model("focus-detr-r50-36ep")


def test_a_released_archive_becomes_a_model_with_its_own_positions_and_cocos_names(tmp_path, cache):
    """The whole way with a file of the real layout, of which only the numbers are made up."""
    name = "focus-detr-r50-36ep-coco"
    model = find_published(name)
    torch.save({"model": detrex_state("focus_detr_r50"), "iteration": 7}, tmp_path / "model_final.pth")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "model_final.pth", "../../outside/model_final.pth")
    server = FileServer()
    try:
        server.files[model.file] = File((tmp_path / "a.zip").read_bytes())
        folder = fetch(replace(model, base=server.url))
    finally:
        server.close()
    assert folder == cache / "models" / name == resolve_model(name)
    assert not list(tmp_path.rglob("outside"))
    config = FocusDetrConfig.from_pretrained(folder)
    assert (config.position_temperature, config.position_offset) == (20.0, 0.0)
    assert tuple(config.id2label.values()) == COCO_CLASS_NAMES
    assert tuple(config.category_ids) == COCO_CATEGORY_IDS
    assert config.token_policy == "focus" and all(config.quirks.values())
    files = {"config.json", "model.safetensors", "preprocessor_config.json", RECORD}
    assert {path.name for path in folder.iterdir()} == files


def _detr():
    return {key: value for key, value in detrex_state("pnp_detr_r50").items() if "sampler" not in key}


STATES = {
    "focus-detr-r101-24ep-coco": lambda: detrex_state("focus_detr_r101"),
    "focus-detr-swin-tiny-12ep-coco": lambda: detrex_state("focus_detr_swin_tiny_224"),
    "focus-detr-swin-base-384-22k-36ep-coco": lambda: detrex_state("focus_detr_swin_base_384"),
    "dino-r50-24ep-coco": lambda: detrex_state("dino_r50"),
    "dino-idea-r50-12ep-coco": dino_state,
    "deformable-detr-detrex-r50-50ep-coco": lambda: detrex_deformable_state(False, False),
    "deformable-detr-detrex-two-stage-r50-50ep-coco": lambda: detrex_deformable_state(True, True),
    "dn-deformable-detr-r50-50ep-coco": dn_deformable_state,
    "detr-r50-500ep-coco": _detr,
    "salience-detr-r50-12ep-coco": lambda: detrex_state("salience_detr_r50"),
    "lite-dino-r50-h2l2-x3-coco": lambda: detrex_state("lite_dino_r50"),
    "sparse-detr-r50-keep20-50ep-coco": lambda: detrex_state("sparse_detr_r50_rho03"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_a_file_of_each_layout_and_kind_of_backbone_fits_its_row(name, cache):
    model = replace(find_published(name), sha256=None)
    file = cache / "by-hand" / name / model.file_name
    file.parent.mkdir(parents=True)
    torch.save({"model": STATES[name]()}, file)
    config = FocusDetrConfig.from_pretrained(fetch(model))
    assert config.num_labels in (80, 91) and "person" in config.id2label.values()
    assert config.policy_options.items() >= model.policy_options.items()
    if model.temperature is not None:
        assert (config.position_temperature, config.position_offset) == (20, 0)


def test_a_file_of_another_backbone_than_the_row_says_is_refused(cache):
    model = find_published("focus-detr-r101-36ep-coco")
    file = cache / "by-hand" / model.name / model.file_name
    file.parent.mkdir(parents=True)
    torch.save({"model": detrex_state("focus_detr_r50")}, file)
    with pytest.raises(
        FocusDetrError, match="focus-detr-r101-36ep-coco: .*its backbone is 'resnet50' and not"
    ):
        fetch(model)
    assert not (cache / "models" / model.name).exists()


@pytest.fixture
def named(monkeypatch, tmp_path, tiny_model):
    """A table of one model, tiny-coco, whose file becomes the tiny model."""
    from types import SimpleNamespace

    def convert(source, output, **options):
        shutil.copytree(tiny_model, output)
        return SimpleNamespace(layout="tiny")

    server = FileServer()
    server.files["tiny.pth"] = File(b"weights")
    row = find_published("focus-detr-r50-12ep-coco")
    model = replace(row, name="tiny-coco", layout="tiny", base=server.url, file="tiny.pth")
    gone = replace(model, name="gone-coco", file="gone.pth")
    monkeypatch.setattr(published, "published_models", lambda: {"tiny-coco": model, "gone-coco": gone})
    monkeypatch.setitem(vars(focus_detr.convert), "convert_checkpoint", convert)
    monkeypatch.chdir(tmp_path)
    yield server
    server.close()


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_its_name_is_a_model_in_python_and_for_fine_tuning(named):
    assert list_published() == ["tiny-coco", "gone-coco"]
    assert FocusDetr("tiny-coco", device="cpu").class_names == ("cell", "dot")
    model, report = load_for_finetuning("tiny-coco", ["dot", "line"])
    assert report.kept_classes == ["dot"] and report.source == "tiny-coco"
    assert len(named.asked) == 1


def test_its_name_is_a_model_on_the_command_line(named, tmp_path):
    picture(64, 48).save(tmp_path / "a.png")
    result = run("predict", "tiny-coco", "a.png", "--json", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert named.asked == [("tiny.pth", None)]


def test_a_folder_of_its_name_goes_before_a_download(named, tmp_path):
    (tmp_path / "tiny-coco").mkdir()
    (tmp_path / "tiny-coco" / "config.json").write_text("{}")
    assert resolve_model("tiny-coco").samefile(tmp_path / "tiny-coco") and named.asked == []
    with pytest.raises(FocusDetrError, match="not found"):
        resolve_model(tmp_path / "gone-coco")  # a path, and no name


def test_download_gets_what_it_can_and_then_fails_for_the_rest(named, cache):
    result = run("download", "gone-coco", "tiny-coco", "blood-cells", "--json")
    assert isinstance(result.exception, FocusDetrError) and "1 of 3 models" in str(result.exception)
    assert "gone-coco: cannot be downloaded" in result.stderr
    found = json.loads(result.stdout)
    assert found == [
        {"name": "tiny-coco", "folder": str(cache / "models" / "tiny-coco")},
        {"name": "blood-cells", "folder": str(resolve_model("blood-cells"))},
    ]
    again = run("download", "tiny-coco")
    assert again.exit_code == 0 and again.stdout.strip() == f"tiny-coco: {cache / 'models' / 'tiny-coco'}"


def test_download_refuses_an_unknown_name_before_it_begins(named):
    result = run("download", "tiny-coco", "tiny-cocoo")
    assert "did you mean 'tiny-coco'" in str(result.exception) and named.asked == []


def test_models_lists_both_kinds_and_whether_they_are_here():
    known = {each["name"]: each for each in json.loads(run("models", "--json").stdout)}
    assert list(known) == [*list_models(), *NAMES]
    assert all(each.keys() == known["blood-cells"].keys() for each in known.values())
    cells, focus = known["blood-cells"], known["focus-detr-r50-12ep-coco"]
    assert cells["here"] == "in the package" and cells["classes"] == ["Platelets", "RBC", "WBC"]
    assert 0.5 < cells["ap"] < 0.8 and cells["licence"] == "Apache-2.0" and cells["real_file"]
    assert focus["here"] == "no" and focus["ap"] == 0.488 and focus["epochs"] == 12
    assert len(focus["classes"]) == 80 and focus["licence"] == "Apache-2.0" and not focus["real_file"]
    assert known["dino-idea-r50-12ep-coco"]["here"] == "by hand"


def test_models_says_what_is_here_unusable_and_never_tried(named, monkeypatch, cache):
    monkeypatch.setattr(listing, "published_models", published.published_models)
    run("download", "tiny-coco")
    page = run("models", "coco").stdout
    assert re.search(r"^tiny-coco +0\.488 +12 +\d+ +Apache-2.0 +COCO, ImageNet-1k +yes$", page, re.MULTILINE)
    assert re.search(r"^gone-coco .* no$", page, re.MULTILINE)
    assert "2 of these have never been run with their real file" in page and "blood-cells" not in page
    monkeypatch.undo()
    page = run("models", "dc5").stdout
    assert "detr-r101-dc5-500ep-coco: cannot be used: its backbone is dilated" in page
    assert "No model's name has 'nonsense' in it" in run("models", "nonsense").stdout
