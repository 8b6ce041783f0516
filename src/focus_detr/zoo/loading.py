"""Open a model's folder whole, or say which of its files is damaged."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch.overrides import TorchFunctionMode

from focus_detr.errors import FocusDetrError
from focus_detr.models.plugins import trusting_plugins
from focus_detr.structures.pixel_masks import HEAD

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from focus_detr.images.preprocessing import ArrayProcessor
    from focus_detr.images.processor import FocusDetrImageProcessor

# What transformers, safetensors, json and the configuration's checks raise on files that are not as saved.
_DAMAGE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)

# While it loads, transformers changes how the whole process makes tensors (torch's default dtype), and then
# changes it back: two that overlap leave one's setting behind.
_one_at_a_time = threading.RLock()


def load_model(
    folder: Path,
    dtype: str | torch.dtype | None = None,
    model_class: type[PreTrainedModel] | None = None,
    *,
    trust_plugins: bool = False,
) -> Any:
    """The trained model in ``folder``, every parameter of which comes from its file.

    Args:
        dtype: of the weights, but for those that decide by order or place and stay float32 (see
            `focus_detr.models.precision`); "auto" as stored.
        trust_plugins: import the modules that its config.json names, which runs their code.

    Raises:
        FocusDetrError: a file is missing, cut short, of another kind of model, or has not all parameters; no
            weights can be of that dtype.
    """
    from focus_detr.models.precision import float_dtype

    if dtype not in (None, "auto"):
        dtype = float_dtype(dtype)
    if model_class is None:
        model_class = _class_of(folder / "config.json")
    _check_kind(folder / "config.json", model_class)
    if not any(folder.glob("model*.safetensors")):
        raise FocusDetrError(f"{folder}: has no weights; model.safetensors belongs beside its config.json")
    _check_shards(folder / "model.safetensors.index.json")
    try:
        with _one_at_a_time, trusting_plugins(trust_plugins):
            loaded: Any = model_class.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, use_safetensors=True, local_files_only=True
            )
        model, info = loaded
    except FocusDetrError as error:
        raise FocusDetrError(f"{folder}: {error}") from error
    except StrictDataclassError as error:
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("TypeError: ")
        raise FocusDetrError(
            f"{folder / 'config.json'}: {reason}; correct it, or copy the model again"
        ) from error
    except ImportError as error:
        raise FocusDetrError(f"{folder}: needs what is not installed: {error}") from error
    except _DAMAGE as error:
        raise _damaged(folder, "config.json and model.safetensors", error) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise FocusDetrError(
            f"{folder}: its model.safetensors lacks {len(missing)} parameters of the model that its "
            f"config.json describes, {missing[0]} for one; the two files are not of one model"
        )
    return model


def load_detector(folder: Path, *, trust_plugins: bool = False) -> tuple[Any, ArrayProcessor]:
    """The trained model in ``folder`` and its image processor, for prediction alone: nothing of transformers'
    model class is imported where its backbone is one of ours, and nothing is initialised that is then read.

    They compute what those of `load_model` and `load_image_processor` do, to the bit, and cannot be saved or
    trained. Other models, and folders that are not as saved, are left to those two, whose errors these are.
    """
    found = _quickly(folder)
    if found is not None:
        return found
    return load_model(folder, "auto", trust_plugins=trust_plugins), load_image_processor(folder)


class _Undrawn(TorchFunctionMode):
    """Inside, in this thread alone, `torch.nn.init` leaves tensors as they are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {}).get("tensor")
        return func(*args, **(kwargs or {}))


def _quickly(folder: Path) -> tuple[Any, ArrayProcessor] | None:
    """The bare detector in ``folder``, and its processor; None where anything is not as usual."""
    from safetensors.torch import load_file

    from focus_detr.images.preprocessing import ArrayProcessor
    from focus_detr.models.backbones.catalogue import is_own
    from focus_detr.models.configuration import FocusDetrConfig
    from focus_detr.models.detector import Detector

    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if values.get("model_type") != FocusDetrConfig.model_type or values.get("plugins"):
            return None
        config = FocusDetrConfig.from_dict(values)
        if not is_own(config.backbone_config) or config.dtype not in (None, torch.float32):
            return None
        settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        processor = ArrayProcessor.from_saved(settings)
        state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
        with torch.device("meta"), _Undrawn():
            model = Detector(config)
        missing, _ = model.load_state_dict(state, strict=False, assign=True)
    except (*_DAMAGE, FocusDetrError, StrictDataclassError):
        return None
    tensors = [*model.parameters(), *model.buffers()]
    if missing or any(each.is_meta or each.dtype != torch.float32 for each in tensors):
        return None
    return model, processor


def load_image_processor(folder: Path, **settings: Any) -> FocusDetrImageProcessor:
    """The image processor in ``folder``, with some settings of its own replaced.

    Raises:
        FocusDetrError: its file is missing or damaged.
    """
    from focus_detr.images.processor import FocusDetrImageProcessor

    if not (folder / "preprocessor_config.json").is_file():
        raise FocusDetrError(
            f"{folder}: has no preprocessor_config.json, which says how images are resized and normalised; "
            "copy the one the model was saved with, or write one: FocusDetrImageProcessor().save_pretrained"
        )
    try:
        return FocusDetrImageProcessor.from_pretrained(folder, **settings)
    except _DAMAGE as error:
        raise _damaged(folder, "preprocessor_config.json", error) from error


def _class_of(file: Path) -> type[PreTrainedModel]:
    from focus_detr.models import FocusDetrForInstanceSegmentation, FocusDetrForObjectDetection

    try:
        heads = json.loads(file.read_text(encoding="utf-8")).get("heads")
    except (OSError, ValueError, AttributeError, RecursionError):  # said where it is read in earnest
        heads = None
    masks = isinstance(heads, list) and HEAD in heads
    return FocusDetrForInstanceSegmentation if masks else FocusDetrForObjectDetection


def _check_kind(file: Path, model_class: type[PreTrainedModel]) -> None:
    """transformers would build our model from another one's configuration, with a warning only."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind = content["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file.parent, "config.json", error) from error
    assert model_class.config_class is not None
    wanted = model_class.config_class.model_type
    if kind != wanted:
        raise FocusDetrError(
            f"{file}: describes a {kind!r} model and not {wanted!r}; those of relatives become ours by: "
            "focus-detr convert CHECKPOINT --output FOLDER"
        )


def _check_shards(file: Path) -> None:
    """transformers would read files of other kinds, and from elsewhere, where an index names them."""
    if not file.is_file():
        return
    try:
        names = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
        strange = sorted(name for name in names if not re.fullmatch(r"model[\w-]*\.safetensors", name))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file.parent, file.name, error) from error
    if strange:
        raise FocusDetrError(
            f"{file}: names {strange[0][:80]!r}; weights are read from model*.safetensors beside it alone; "
            "save the model again, with save_pretrained"
        )


def _damaged(folder: Path, files: str, error: Exception) -> FocusDetrError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return FocusDetrError(
        f"{folder}: {files} cannot be read as a model's ({type(error).__name__}: {lines[0]}); copy or train "
        "the model again"
    )
