"""Files of strangers run no code: a bomb in every place that one is read, and the ways to run it."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from focus_detr import FocusDetrError, Predictor
from focus_detr.convert import convert_checkpoint
from focus_detr.data import list_splits, load_dataset
from focus_detr.export import load_exported
from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.backbones.catalogue import backbone_config
from focus_detr.models.backbones.weights import load_pretrained_backbone
from focus_detr.plain_yaml import load_plain
from focus_detr.training.recipe import load_recipe
from focus_detr.zoo.loading import load_image_processor, load_model
from helpers.tiny_datasets import write_coco, write_voc, write_yolo

SOURCE = Path(__file__).parents[1] / "src" / "focus_detr"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The file that a bomb makes."""
    return tmp_path / "it ran"


def bomb(trace: Path) -> bytes:
    class Code:
        def __reduce__(self) -> Any:
            return Path.touch, (trace,)

    return pickle.dumps({"model": Code()}, protocol=2)


def torch_bomb(trace: Path, file: Path) -> None:
    """As torch writes it, in its zip archive."""

    class Code:
        def __reduce__(self) -> Any:
            return Path.touch, (trace,)

    torch.save({"model": Code()}, file)


def in_zip(trace: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/model.pth", bomb(trace))


def as_yaml(trace: Path) -> str:
    return f"!!python/object/apply:os.mkdir ['{trace}']"


def test_the_bombs_are_live(trace: Path, tmp_path: Path) -> None:
    pickle.loads(bomb(trace))
    assert trace.exists()
    trace.unlink()
    torch_bomb(trace, tmp_path / "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert trace.exists()
    trace.unlink()
    yaml.unsafe_load(as_yaml(trace))
    assert trace.is_dir()


FILES = {
    "pickle": lambda trace, file: file.write_bytes(bomb(trace)),
    "torch": torch_bomb,
    "zip": in_zip,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["model.pth", "model.zip", "model.safetensors", "model.pt2", "model.onnx"])
def test_weights_that_are_code(kind: str, name: str, trace: Path, tmp_path: Path) -> None:
    file = tmp_path / name
    FILES[kind](trace, file)
    ways = [lambda: convert_checkpoint(file, tmp_path / "out")]
    lite = build_backbone(backbone_config("efficientnet-lite0"))
    ways += [lambda: load_pretrained_backbone(lite, file)]
    if file.suffix in (".onnx", ".pt2"):
        ways = [lambda: load_exported(file), lambda: load_pretrained_backbone(lite, file)]
    for way in ways:
        with pytest.raises(FocusDetrError) as refused:
            way()
        assert name in str(refused.value)
    assert not trace.exists()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "preprocessor_config.json", "pytorch_model.bin"]
)
def test_a_models_folder_with_code_in_it(kind: str, name: str, tiny_model: Path, trace: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    FILES[kind](trace, folder / name)
    with pytest.raises(FocusDetrError, match=str(folder)):
        Predictor.from_pretrained(folder)
    assert not trace.exists()


def test_shards_that_are_pickles_or_lie_elsewhere(tiny_model: Path, trace: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    torch_bomb(trace, folder / "pytorch_model.bin")
    torch_bomb(trace, tmp_path / "elsewhere.bin")
    names = load_model(tiny_model).state_dict()
    for place in ("pytorch_model.bin", "../elsewhere.bin"):
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, place)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(FocusDetrError, match=str(folder)):
            load_model(folder)
    assert not trace.exists()


@pytest.mark.parametrize("kind", FILES)
def test_a_backbones_folder_with_code_in_it(kind: str, trace: Path, tmp_path: Path) -> None:
    config = backbone_config("resnet50")
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), "auto_map": {"AutoModel": "c.M"}}))
    (tmp_path / "c.py").write_text(f"open({str(trace)!r}, 'w')")
    FILES[kind](trace, tmp_path / "pytorch_model.bin")
    with pytest.raises(FocusDetrError, match=str(tmp_path)):
        load_pretrained_backbone(build_backbone(config), tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("place", ["config", "backbone"])
def test_a_configuration_that_names_code(place: str, tiny_model: Path, trace: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    code = f"open({str(trace)!r}, 'w')\nclass M: pass\n"
    (folder / "stranger.py").write_text(code)
    content = json.loads((folder / "config.json").read_text())
    named = {each: "stranger.M" for each in ("AutoConfig", "AutoBackbone", "AutoModel")}
    target = content if place == "config" else content["backbone_config"]
    target |= {"auto_map": named, "trust_remote_code": True} if place == "backbone" else {"auto_map": named}
    (folder / "config.json").write_text(json.dumps(content))
    try:
        load_model(folder)
    except FocusDetrError as refused:
        assert str(folder) in str(refused)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_settings_nested_without_end_are_damaged_files(name: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / name).write_text('{"a":' * 100_000)
    with pytest.raises(FocusDetrError, match=f"{folder}: {name}"):
        load_model(folder) if name == "config.json" else load_image_processor(folder)


def test_recipes_that_are_code(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    for text in (as_yaml(trace), f"epochs: {as_yaml(trace)}"):
        file.write_text(text)
        with pytest.raises(FocusDetrError, match=f"recipe {file}: is not YAML"):
            load_recipe(file)
    assert not trace.exists()


BOMBS = {
    "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join(9 * [f'*{a}'])}]\n" for a, b in pairwise("abcdefghi")),
    "merges": "a: &a {x: 1, y: 2}\n"
    + "".join(
        f"{b}: &{b} {{{', '.join(f'k{n}: *{a}' for n in range(9))}}}\n" for a, b in pairwise("abcdefghi")
    ),
    "depth": "[" * 50_000,
    "itself": "&a [*a]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_grows_or_sinks_is_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError):
        load_plain(BOMBS[name])
    (tmp_path / "recipe.yaml").write_text(BOMBS[name])
    with pytest.raises(FocusDetrError, match="is not YAML") as refused:
        load_recipe(tmp_path / "recipe.yaml")
    assert len(str(refused.value)) < 1000


def test_plain_settings_are_read_as_always() -> None:
    text = "base: &b {lr: 1e-4, drops: [1, 2]}\nrun: {<<: *b, epochs: 3}\nagain: *b\nname: text\nnone: null\n"
    assert load_plain(text) == yaml.safe_load(text)


@pytest.mark.parametrize("write", [write_coco, write_voc, write_yolo])
def test_data_sets_with_code_in_every_file(write: Any, trace: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if write is write_coco:
        write(root / "instances_train.json", root / "train")
    else:
        write(root)
    for file in [path for path in root.rglob("*") if path.is_file()]:
        content = file.read_bytes()
        for harm in (bomb(trace), as_yaml(trace).encode()):
            file.write_bytes(harm)
            try:
                for split in list_splits(root):
                    load_dataset(root, split, on_problem="ignore", check_images="decode")
            except FocusDetrError as refused:
                assert str(root) in str(refused)
        file.write_bytes(content)
    assert not trace.exists()


LOCATIONS = ("../secret.bin", "{folder}/secret.bin", "link.bin", "hard.bin", "a/../../secret.bin", "..")


@pytest.mark.parametrize("place", LOCATIONS)
def test_an_onnx_file_reads_no_weights_from_elsewhere(place: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    (tmp_path / "model").mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(4096))
    (tmp_path / "model" / "link.bin").symlink_to(secret)
    (tmp_path / "model" / "hard.bin").hardlink_to(secret)
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1024], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": place.format(folder=tmp_path), "length": "4096"}.items():
        tensor.external_data.add(key=key, value=value)
    inner = onnx.helper.make_graph([], "inner", [], [], [tensor])
    value = onnx.helper.make_tensor_value_info("x", 1, [1024])
    for graph in (
        onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [], [tensor]),
        onnx.helper.make_graph([onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner)], "g", [], []),
        onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["y"], value=tensor)], "g", [], []),
    ):
        file = tmp_path / "model" / "model.onnx"
        file.write_bytes(onnx.helper.make_model(graph).SerializeToString())
        with pytest.raises(FocusDetrError, match="which is no file of its own beside it"):
            load_exported(file)


def test_an_openvino_file_that_names_a_library_or_entities_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    laughs = '<!DOCTYPE n [<!ENTITY a "' + "x" * 9999 + '">]><net name="&a;" version="11">'
    layer = '<layers><layer id="0" name="x" type="Evil" version="/tmp/evil.so"/></layers><edges/></net>'
    for text in (laughs + layer, '<net name="n" version="11">' + layer, "<net", ""):
        (tmp_path / "model.xml").write_text(text)
        with pytest.raises(FocusDetrError, match="model.xml"):
            load_exported(tmp_path / "model.xml")


def test_nothing_that_could_run_what_it_reads_is_called() -> None:
    """Every file of the package: pickles are read by torch alone, without code; yaml by safe loaders."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                if {"marshal", "shelve", "dill", "joblib", "cloudpickle"} & set(names):
                    found.append(f"{path.name}:{node.lineno} imports {names}")
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            said = {word.arg: ast.unparse(word.value) for word in node.keywords}
            harmless = {
                "torch.load": said.get("weights_only") == "True",
                "np.load": said.get("allow_pickle") == "False",
                "yaml.load": path.name == "plain_yaml.py",
                "torch.export.load": path.name == "torch_export.py",  # behind `refuse_code`
            }
            refused = ("eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.unsafe_load")
            refused += ("yaml.full_load", "os.system", "torch.jit.load", "torch.hub.load", "yaml.load_all")
            if called in refused or not harmless.get(called, True):
                found.append(f"{path.name}:{node.lineno} calls {called}")
            if said.get("trust_remote_code", "False") != "False" or said.get("shell", "False") != "False":
                found.append(f"{path.name}:{node.lineno} says {said}")
    assert found == []
