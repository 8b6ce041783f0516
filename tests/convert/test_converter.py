import json
import zipfile

import pytest
import torch

from focus_detr.convert import ConversionReport, convert_checkpoint
from focus_detr.convert.coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from focus_detr.errors import FocusDetrError
from helpers.layouts import detrex_state, dino_state, dn_deformable_state, single_stage, tensor, with_levels


def save(path, state, name="model_final.pth"):
    """A released archive: expanded tensors are saved as the one number they hold."""
    torch.save({"model": state, "iteration": 7}, path / name)
    with zipfile.ZipFile(path / "released.zip", "w") as archive:
        archive.write(path / name, name)
    return path / "released.zip"


@pytest.fixture(scope="module")
def focus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("focus")
    state = detrex_state("focus_detr_r50")
    for number, key in enumerate(state):
        state[key] = tensor(state[key].shape, number / 1024)
    for key in state:
        if "enhance" in key:
            state[key] = state["class_embed.6." + key.rsplit(".", 1)[1]]
        elif key.startswith(("transformer.decoder.class_embed", "transformer.decoder.bbox_embed")):
            state[key] = state[key.removeprefix("transformer.decoder.")]
    report = convert_checkpoint(save(folder, state), folder / "model")
    return state, report, folder / "model"


def test_the_folder_is_a_model_like_any_other(focus):
    from focus_detr import FocusDetrForObjectDetection, FocusDetrImageProcessor

    state, report, folder = focus
    names = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert {path.name for path in folder.iterdir()} == names
    model, info = FocusDetrForObjectDetection.from_pretrained(
        folder, dtype=torch.float64, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    ours = model.state_dict()
    assert ours.keys() == {new for names in report.renamed.values() for new in names}
    for old, (new,) in report.renamed.items():
        assert ours[new].dtype == torch.float64 and ours[new].shape == state[old].shape
        assert (ours[new].flatten()[[0, -1]] == state[old].max().double()).all(), new
    processor = FocusDetrImageProcessor.from_pretrained(folder)
    assert processor.image_mean == [0.485, 0.456, 0.406]


def test_weights_keep_their_precision_and_the_config_says_so(focus):
    from safetensors import safe_open

    _, _, folder = focus
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "float16"
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118


def test_the_config_is_read_off_the_tensors(focus):
    from focus_detr import FocusDetrConfig

    config = FocusDetrConfig.from_pretrained(focus[2])
    assert (config.position_temperature, config.position_offset) == (10000.0, -0.5)
    assert (config.token_policy, config.num_queries, config.num_points) == ("focus", 900, 4)
    assert (config.encoder_ffn_dim, config.encoder_layers, config.decoder_layers) == (2048, 6, 6)
    assert tuple(config.id2label.values()) == COCO_CLASS_NAMES
    assert tuple(config.category_ids) == COCO_CATEGORY_IDS
    assert all(config.quirks.values()) and config.freeze_stem and config.freeze_stages == 0


def test_the_report_accounts_for_every_key(focus):
    state, report, _ = focus
    assert set(report.renamed) | set(report.dropped) == set(state)
    assert json.loads(json.dumps(report.to_dict()))["layout"] == "focus-detr (detrex)"
    text = str(report)
    assert "resnet50" in text and "position_temperature = 10000.0 (default of focus-detr (detrex)" in text
    assert "24 dropped: copy of class_embed" not in text and "missing                   0" in text
    assert sum(count for count, _ in report.parts.values()) == len(report.renamed) == 625


def test_original_dino(tmp_path):
    from focus_detr import FocusDetrConfig

    state = dino_state()
    report = convert_checkpoint(save(tmp_path, state), tmp_path / "model", offset=-0.25)
    assert isinstance(report, ConversionReport) and report.layout == "dino (original)"
    config = FocusDetrConfig.from_pretrained(tmp_path / "model")
    assert (config.position_temperature, config.position_offset) == (20.0, -0.25)
    assert report.settings["position_offset"] == (-0.25, "given")
    assert config.token_policy == "dense" and config.num_labels == 80
    assert config.freeze_stem and config.freeze_stages == 1
    assert not config.quirks["unmasked_evaluation"] and not config.quirks["frozen_values"]
    assert any("91 -> 80" in note for note in report.notes)


def test_lite_dino(tmp_path):
    from focus_detr import FocusDetrConfig

    path = save(tmp_path, detrex_state("lite_dino_r50"))
    report = convert_checkpoint(path, tmp_path / "model")
    value, by = report.settings["high_levels"]
    assert value == 3 and by == "default of lite-dino (original); the checkpoint does not say"
    config = FocusDetrConfig.from_pretrained(tmp_path / "model")
    assert (config.position_temperature, config.num_points, config.num_labels) == (20.0, 4, 80)
    assert (config.token_policy, config.encoder_layers) == ("interleaved", 6)
    key_aware = {"key_aware": True, "own_keys": False}
    assert config.policy_options == {**key_aware, "high_levels": 3, "blocks": 3, "small_ffn": True}
    assert config.host_options.items() >= key_aware.items()

    report = convert_checkpoint(path, tmp_path / "two", policy_options={"high_levels": 2})
    assert report.settings["high_levels"] == (2, "given")
    assert FocusDetrConfig.from_pretrained(tmp_path / "two").policy_options["high_levels"] == 2
    with pytest.raises(FocusDetrError, match="unknown key 'high_level'"):
        convert_checkpoint(path, tmp_path / "three", policy_options={"high_level": 2})


def test_salience_detr(tmp_path):
    from focus_detr import FocusDetrConfig

    report = convert_checkpoint(save(tmp_path, detrex_state("salience_detr_r50")), tmp_path / "model")
    config = FocusDetrConfig.from_pretrained(tmp_path / "model")
    assert (config.host, config.token_policy) == ("salience-detr", "salience")
    assert (config.num_labels, config.num_queries, config.freeze_stages) == (80, 900, 1)
    assert (config.position_temperature, config.position_offset) == (10000.0, -0.5)
    assert config.policy_options["foreground_loss_coefficient"] == 2.0
    assert config.quirks["padded_fusion"] and config.quirks["canvas_centres"]
    assert any("alpha" in note for note in report.notes)


@pytest.fixture(scope="module")
def detrex_dino():
    return detrex_state("dino_r50")


def refused(tmp_path, state, message, **options):
    torch.save({"model": state}, tmp_path / "c.pth")
    with pytest.raises(FocusDetrError, match=message):
        convert_checkpoint(tmp_path / "c.pth", tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, detrex_dino):
    refused(tmp_path, {**detrex_dino, "odd.key": tensor((1,))}, r"c\.pth: 1 keys.*odd\.key")
    without = {key: value for key, value in detrex_dino.items() if "layers.3.norms.1" not in key}
    refused(tmp_path, without, r"4 tensors.*missing \(.*host\.decoder\.layers\.3\.cross_attention_norm")
    without = {key: value for key, value in detrex_dino.items() if "tgt_embed" not in key}
    refused(tmp_path, without, "query_content")
    odd = {**detrex_dino, "neck.convs.1.conv.weight": tensor((256, 3, 1, 1))}
    refused(tmp_path, odd, r"neck\.projections\.1\.conv\.weight has shape \[256, 3, 1, 1\].*256, 1024")
    refused(tmp_path, {"conv.weight": tensor((3,))}, r"c\.pth: not a checkpoint of.*conv\.weight")


def test_expectations_are_checked(tmp_path, detrex_dino):
    refused(tmp_path, detrex_dino, "'resnet50' and not backbone='swin-tiny-224'", backbone="swin-tiny-224")
    refused(tmp_path, detrex_dino, "80 classes and not num_labels=3", num_labels=3)
    refused(tmp_path, detrex_dino, "80 classes and 2 class names", class_names=["a", "b"])
    refused(tmp_path, detrex_dino, "absent.txt.*no such file", class_names=tmp_path / "absent.txt")


def test_a_model_is_overwritten_only_on_request(tmp_path, detrex_dino):
    from focus_detr import FocusDetrConfig

    torch.save(detrex_dino, tmp_path / "c.pth")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(FocusDetrError, match="overwrite=True"):
        convert_checkpoint(tmp_path / "c.pth", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == b"mine"
    (tmp_path / "names.txt").write_text("\n".join(f"thing {i}" for i in range(80)) + "\n\n")
    names = tmp_path / "names.txt"
    convert_checkpoint(tmp_path / "c.pth", tmp_path / "model", overwrite=True, class_names=names)
    config = FocusDetrConfig.from_pretrained(tmp_path / "model")
    assert config.id2label[79] == "thing 79" and config.category_ids is None
    assert config.quirks["unmasked_evaluation"] and not config.quirks["frozen_values"]


def test_dn_deformable_becomes_a_model(tmp_path):
    from focus_detr import FocusDetrForObjectDetection

    path = tmp_path / "dn.pth"
    torch.save({"model": dn_deformable_state()}, path)
    convert_checkpoint(path, tmp_path / "model")
    model = FocusDetrForObjectDetection.from_pretrained(tmp_path / "model", dtype=torch.float16)
    config = model.config
    assert (config.host, config.num_queries, config.num_labels) == ("dn-deformable-detr", 300, 80)
    parts = model.host.query_content, model.host.query_anchor, model.host.label_embedding
    assert [part.weight.unique().item() for part in parts] == [1, 2, 3]


@pytest.mark.parametrize(
    ("state", "maps", "levels", "strides"),
    [
        (lambda: single_stage(detrex_state("deformable_detr_two_stage_r50")), 1, 1, [32]),
        (lambda: detrex_state("deformable_detr_two_stage_r50"), 2, 3, [16, 32, 64]),
        (dino_state, 4, 5, [4, 8, 16, 32, 64]),
        (dino_state, 3, 5, [8, 16, 32, 64, 128]),
    ],
)
def test_levels_are_read_from_the_neck(tmp_path, state, maps, levels, strides):
    from focus_detr import FocusDetrForObjectDetection

    torch.save({"model": with_levels(state(), maps, levels)}, tmp_path / "c.pth")
    report = convert_checkpoint(tmp_path / "c.pth", tmp_path / "model")
    assert any("DC5" in note for note in report.notes) == (levels == 1)
    model = FocusDetrForObjectDetection.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    assert (model.config.num_levels, model.strides) == (levels, strides)
    with torch.no_grad():
        output = model(torch.zeros(1, 3, 64, 96))
    assert [tuple(shape) for shape in output.spatial_shapes] == [
        (-(-64 // stride), -(-96 // stride)) for stride in strides
    ]
