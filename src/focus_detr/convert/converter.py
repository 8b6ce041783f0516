"""Convert a foreign checkpoint into a model folder."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig

from focus_detr.convert.backbones import detect_backbone
from focus_detr.convert.checkpoint import open_model
from focus_detr.convert.coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from focus_detr.convert.dino import COCO_ROWS
from focus_detr.convert.layouts import Layout, detect_layout
from focus_detr.convert.report import ConversionReport
from focus_detr.convert.rules import apply_rules
from focus_detr.disk import explained_disk
from focus_detr.errors import FocusDetrError
from focus_detr.folders import from_home, whole_files, writable_folder
from focus_detr.models.backbones.catalogue import backbone_config, image_normalization
from focus_detr.models.configuration import FocusDetrConfig
from focus_detr.models.hosts import HOSTS
from focus_detr.models.options import in_place

_ATTENTION_HEADS = 8


def convert_checkpoint(
    path: str | Path,
    output: str | Path,
    *,
    backbone: str | None = None,
    temperature: float | None = None,
    offset: float | None = None,
    num_labels: int | None = None,
    class_names: Sequence[str] | str | Path | None = None,
    policy_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ConversionReport:
    """Convert a checkpoint of Focus-DETR or a relative (see `layouts`) into a model folder.

    Every key of the checkpoint is renamed or dropped for a stated reason, and every tensor of the model is
    found: anything else is an error. Weights keep the precision they came in.

    Args:
        path: a .pth file, a released .zip that holds one, or a model of `transformers`: its folder or its
            .safetensors file, beside which its config.json lies.
        output: folder to write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json`` to.
        backbone: the backbone expected (see `list_backbones`); None takes what the tensors show.
        temperature, offset: of the sine position encoding, which checkpoints do not hold. Defaults: 10000
            and -0.5 for detrex (its 12-epoch and all Swin models; the ResNet models of 24 and 36 epochs need
            20 and 0), 20 and 0 for the original DINO.
        num_labels: the classes expected; None takes what the tensors show, and COCO's 80 for the 91 rows of
            the original DINO.
        class_names: one a label, or a text file with one a line; None names COCO's for 80 classes.
        policy_options: what the checkpoint does not say of its token policy, as ``{"high_levels": 2}`` of
            Lite-DETR's H2L2 (default: 3).
        overwrite: replace a model that is in ``output`` already.

    Raises:
        FocusDetrError: the checkpoint is of no known layout, or does not fit; nothing is written.
    """
    output = writable_folder(output)
    if (output / "model.safetensors").exists() and not overwrite:
        raise FocusDetrError(f"{output}: holds a model already; choose another folder, or overwrite=True")
    path = from_home(path)
    source = str(path)
    foreign, settings = open_model(path)
    layout = detect_layout(foreign, source)
    given = layout.read_fields(settings) if settings else {}
    renaming = apply_rules(foreign, layout.rules(foreign), source)
    if renaming.unknown:
        raise FocusDetrError(
            f"{source}: {len(renaming.unknown)} keys are no part of layout {layout.name!r}: "
            + ", ".join(renaming.unknown[:8])
        )
    found = "its own" if "backbone_config" in given else detect_backbone(renaming.state, source)
    if backbone is not None and backbone != found:
        raise FocusDetrError(f"{source}: its backbone is {found!r} and not backbone={backbone!r}")
    state, notes = layout.adapt(renaming.state, num_labels)

    if class_names is None and settings:
        class_names = layout.read_class_names(settings)
    names = _class_names(from_home(class_names), _rows(state, layout, source), num_labels, source)
    encoding = {
        "position_temperature": layout.temperature if temperature is None else temperature,
        "position_offset": layout.offset if offset is None else offset,
    }
    options = {
        "host_options": layout.host_options(foreign),
        "policy_options": layout.unsaid | layout.policy_options(foreign) | dict(policy_options or {}),
    }
    backbone_settings = given.pop("backbone_config", None) or backbone_config(
        found, _backbone_levels(state, source)
    )
    fields = {"backbone_config": backbone_settings, **options, **encoding, **layout.fields, **given}
    config = _config(state, layout, fields, names, source)
    _check_complete(state, config, source)
    _save(state, config, output)
    default = f"default of {layout.name}; the checkpoint does not say"
    unsaid = {name: (value, default) for name, value in {**encoding, **layout.unsaid}.items()}
    said = {"position_temperature": temperature, "position_offset": offset, **(policy_options or {})}
    unsaid |= {name: (value, "given") for name, value in said.items() if value is not None}
    return ConversionReport(
        source=source,
        output=str(output),
        layout=layout.name,
        backbone=found,
        parts=_parts(state),
        renamed=renaming.names,
        dropped=renaming.dropped,
        settings=unsaid,
        notes=[*renaming.notes, *notes],
    )


def _rows(state: dict[str, Tensor], layout: Layout, source: str) -> int:
    """Classes that the class heads have a row for, "no object" apart."""
    if HOSTS[layout.host].scoring == "softmax":
        return len(_tensor(state, "host.class_head.weight", source)) - 1
    return len(_tensor(state, "host.class_heads.0.weight", source))


def _class_names(
    given: Sequence[str] | str | Path | None, rows: int, num_labels: int | None, source: str
) -> list[str]:
    if num_labels is not None and num_labels != rows:
        raise FocusDetrError(f"{source}: has {rows} classes and not num_labels={num_labels}")
    if isinstance(given, str | Path):
        if not Path(given).is_file():
            raise FocusDetrError(f"class names {str(given)!r}: no such file; one name a line is needed")
        lines = Path(given).read_text(encoding="utf-8").splitlines()
        given = [line.strip() for line in lines if line.strip()]
    if given is None:
        if rows == COCO_ROWS:  # one for each category id, used or not
            used = dict(zip(COCO_CATEGORY_IDS, COCO_CLASS_NAMES, strict=True))
            return [used.get(i, f"unused {i}") for i in range(rows)]
        coco = rows == len(COCO_CLASS_NAMES)
        return list(COCO_CLASS_NAMES) if coco else [f"class {label}" for label in range(rows)]
    if len(given) != rows:
        raise FocusDetrError(f"{source}: has {rows} classes and {len(given)} class names were given")
    return list(given)


def _config(
    state: dict[str, Tensor],
    layout: Layout,
    given: dict[str, Any],
    names: list[str],
    source: str,
) -> FocusDetrConfig:
    encoder, decoder = _layers(state, "encoder"), _layers(state, "host.decoder")
    convolutional = "backbone.model.swin.embeddings.patch_embeddings.projection.weight" not in state
    fields: dict[str, Any] = {
        "freeze_stem": convolutional,
        "freeze_stages": int(convolutional and not layout.trains_first_stage),
        "host": layout.host,
        "token_policy": layout.token_policy,
        "attention_heads": _ATTENTION_HEADS,
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "encoder_ffn_dim": len(_tensor(state, "encoder.layers.0.ffn.linear1.weight", source)),
        "decoder_ffn_dim": len(_tensor(state, "host.decoder.layers.0.ffn.linear1.weight", source)),
        "id2label": dict(enumerate(names)),
        "label2id": {name: label for label, name in enumerate(names)},
        "quirks": layout.quirks,
        **given,
    }
    if HOSTS[layout.host].single_scale:
        fields["num_levels"], fields["d_model"] = 1, len(_tensor(state, "host.decoder.norm.weight", source))
    else:
        levels, fields["d_model"] = _tensor(state, "level_embedding", source).shape
        offsets = _tensor(state, "encoder.layers.0.deformable_attention.sampling_offsets.weight", source)
        fields["num_levels"], fields["num_points"] = (
            levels,
            len(offsets) // (2 * fields["attention_heads"] * levels),
        )
    if "host.query_position.weight" in state:
        fields["num_queries"] = len(state["host.query_position.weight"])
    elif "host.query_content.weight" in state:
        fields["num_queries"] = len(state["host.query_content.weight"])
    elif layout.host != "dino" and "num_queries" not in fields:
        fields["num_queries"] = 300  # of proposals; the checkpoint does not say, the releases have as many
    if len(names) == COCO_ROWS and names[-1] == COCO_CLASS_NAMES[-1]:
        fields["category_ids"] = list(range(COCO_ROWS))
    if tuple(names) == COCO_CLASS_NAMES:
        fields["category_ids"] = list(COCO_CATEGORY_IDS)
    config = FocusDetrConfig(**in_place(fields))
    dtypes = Counter(str(value.dtype).removeprefix("torch.") for value in state.values())
    config.dtype = dtypes.most_common(1)[0][0]
    return config


def _backbone_levels(state: dict[str, Tensor], source: str) -> int:
    """Levels that are projected from a map of the backbone each; the others are strided convolutions."""
    _tensor(state, "neck.projections.0.conv.weight", source)
    weights = re.compile(r"neck\.projections\.\d+\.conv\.weight")
    return sum(value.shape[-1] == 1 for key, value in state.items() if weights.fullmatch(key))


def _layers(state: dict[str, Tensor], part: str) -> int:
    return len({match[1] for key in state if (match := re.match(rf"{part}\.layers\.(\d+)\.", key))})


def _tensor(state: dict[str, Tensor], name: str, source: str) -> Tensor:
    if name not in state:
        raise FocusDetrError(f"{source}: nothing in it becomes {name!r}; the checkpoint is not complete")
    return state[name]


def _check_complete(state: dict[str, Tensor], config: FocusDetrConfig, source: str) -> None:
    """The model's tensors and those of ``state`` must be the same, in name and shape."""
    from focus_detr.models.detector import FocusDetrForObjectDetection

    with torch.device("meta"):
        model = FocusDetrForObjectDetection(config)
    expected = {key: value.shape for key, value in model.state_dict().items()}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise FocusDetrError(
            f"{source}: {len(missing)} tensors of the model are missing ({', '.join(missing[:5])}) and "
            f"{len(extra)} have no place in it ({', '.join(extra[:5])})"
        )
    for key, shape in expected.items():
        if state[key].shape != shape:
            raise FocusDetrError(
                f"{source}: {key} has shape {list(state[key].shape)}, the model needs {list(shape)}"
            )


def _parts(state: dict[str, Tensor]) -> dict[str, tuple[int, int]]:
    parts: dict[str, tuple[int, int]] = {}
    for key, value in state.items():
        name = key.split(".")[0]
        tensors, values = parts.get(name, (0, 0))
        parts[name] = tensors + 1, values + value.numel()
    return parts


def _save(state: dict[str, Tensor], config: FocusDetrConfig, output: Path) -> None:
    from focus_detr.images.processor import FocusDetrImageProcessor

    config.architectures = ["FocusDetrForObjectDetection"]
    assert isinstance(config.backbone_config, PreTrainedConfig)
    mean, std = image_normalization(config.backbone_config)
    processor = FocusDetrImageProcessor(image_mean=mean, image_std=std, scoring=config.scoring)
    # Parts of one tensor share its storage, which the format has no word for.
    tensors = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    with explained_disk(output), whole_files(output) as writing:
        config.save_pretrained(writing)
        processor.save_pretrained(writing)
        save_file(tensors, writing / "model.safetensors", metadata={"format": "pt"})
