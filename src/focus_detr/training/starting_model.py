"""The model a run starts from, and its image processor: a new one, a trained one, or that of a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.training.optimization import freeze_unlearned
from focus_detr.training.recipe import Recipe

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.images.processor import FocusDetrImageProcessor
    from focus_detr.models.detector import FocusDetrForObjectDetection

logger = logging.getLogger(__name__)

# Images that a random backbone's norms are set by, and the side they are seen at.
_MEASURED_IMAGES, _MEASURED_SIDE = 16, 320


def build_model(
    model: str | Path | PreTrainedModel,
    checkpoint: Path | None,
    recipe: Recipe,
    dataset: DetectionDataset,
) -> tuple[PreTrainedModel, Any]:
    """The model to train, with the data's classes; and the report where it comes from a trained one."""
    from focus_detr.training.finetuning import class_names_of, load_for_finetuning
    from focus_detr.zoo.presets import is_preset

    report = None
    if isinstance(model, PreTrainedModel):
        detector = model
    elif checkpoint is not None:
        from focus_detr.zoo.loading import load_model

        detector = load_model(checkpoint)
        _aligned(detector)
    elif is_preset(str(model)):
        detector = new_model(str(model), recipe, dataset)
    else:
        if recipe.backbone_weights != "default":
            logger.warning(
                "backbone_weights=%r: not used, since the run goes on from %s; a new model is a preset's: "
                "model=focus-detr-lite0",
                recipe.backbone_weights,
                model,
            )
        detector, report = load_for_finetuning(
            model,
            dataset.class_names,
            category_ids=dataset.category_ids,
            renamed=recipe.classes,
            **recipe.model,
        )
    names = class_names_of(detector.config)
    if names != list(dataset.class_names):
        raise FocusDetrError(
            f"the model detects {names}, the data set has {list(dataset.class_names)}; resume with the data "
            "of the run, or start a new one from the model's folder"
        )
    if recipe.start_share and checkpoint is None:
        _check_start_share(recipe, report)
    freeze_unlearned(detector, recipe)
    detector.config.training_recipe = recipe.to_dict()
    if recipe.gradient_checkpointing:
        _checkpoint_activations(detector)
    return detector, report


def _check_start_share(recipe: Recipe, report: Any) -> None:
    if report is None:
        why, remedy = "no trained model is started from", "name one"
    elif random := [*report.adapted, *report.new]:
        why = f"{', '.join(random)} would keep a share of random numbers"
        remedy = "train on the classes that the model knows"
    else:
        return
    raise FocusDetrError(f"start_share={recipe.start_share}: {why}; set it to 0, or {remedy}")


def new_model(name: str, recipe: Recipe, dataset: DetectionDataset) -> FocusDetrForObjectDetection:
    """A model of the preset ``name``, its backbone pretrained.

    Where the recipe insists on a random backbone, nothing of it is frozen but the statistics of its norms,
    which are those of some training images.

    Raises:
        FocusDetrError: the backbone's weights are not to be had; the message says how to get them.
    """
    from focus_detr.models.backbones.weights import load_pretrained_backbone
    from focus_detr.models.segmenter import detector_class
    from focus_detr.zoo.presets import preset

    source = _weights(name, recipe)
    fields = dict(recipe.model)
    if source is None:
        fields |= {"freeze_stem": False, "freeze_stages": 0, "train_norm_affine": True}
    config = preset(
        name,
        id2label=dict(enumerate(dataset.class_names)),
        label2id={each: label for label, each in enumerate(dataset.class_names)},
        category_ids=list(dataset.category_ids),
        **fields,
    )
    detector = detector_class(config)(config)
    if source is not None:
        load_pretrained_backbone(detector.backbone, source)
        return detector
    _measure_norms(detector, build_image_processor(name, recipe), dataset)
    return detector


def _weights(name: str, recipe: Recipe) -> str | None:
    """Where the backbone of a new model of this preset starts; None for random numbers."""
    from focus_detr.zoo.presets import preset_weights

    if recipe.backbone_weights != "default":
        return recipe.backbone_weights
    return preset_weights(name, **recipe.model)


def _measure_norms(
    detector: FocusDetrForObjectDetection, processor: FocusDetrImageProcessor, dataset: DetectionDataset
) -> None:
    from focus_detr.models.backbones.frozen_batch_norm import measure_statistics

    step = max(1, len(dataset) // _MEASURED_IMAGES)
    images = [dataset[i].image for i in range(0, len(dataset), step)[:_MEASURED_IMAGES]]
    size = {"height": _MEASURED_SIDE, "width": _MEASURED_SIDE}
    pixels = processor(images, size=size, return_tensors="pt")["pixel_values"]
    measure_statistics(detector.backbone, pixels)


def _has_unset_norms(detector: PreTrainedModel) -> bool:
    from focus_detr.models.backbones.frozen_batch_norm import FrozenBatchNorm2d

    norms = [each for each in detector.modules() if isinstance(each, FrozenBatchNorm2d)]
    return bool(norms) and not any(bool(norm.running_mean.any()) for norm in norms)


def starts_without_weights(model: str | Path | PreTrainedModel, recipe: Recipe) -> bool:
    """Whether the backbone of what a run starts from has random numbers, as far as can be told."""
    from focus_detr.zoo.presets import is_preset

    if isinstance(model, PreTrainedModel):
        return _has_unset_norms(model)
    return is_preset(str(model)) and _weights(str(model), recipe) is None


def warn_of_start(model: str | Path | PreTrainedModel, recipe: Recipe) -> None:
    """Say where a run starts from random numbers: once, however often a model is built for it."""
    if not starts_without_weights(model, recipe):
        return
    if isinstance(model, PreTrainedModel):  # trained as it is; that of its backbone may have been overlooked
        logger.warning(
            "the model's backbone has random numbers, and what is frozen of it stays so: load weights "
            "(load_pretrained_backbone), or train a preset, which comes with them"
        )
        return
    logger.warning(
        "the backbone starts from random numbers, as the recipe says (backbone_weights: null), which needs "
        "far more data and time than pretrained weights"
    )
    fields = ("freeze_stem", "freeze_stages")
    if kept := {field: recipe.model[field] for field in fields if recipe.model.get(field)}:
        logger.info("left out, as nothing random is frozen: %s", kept)


def _aligned(detector: PreTrainedModel) -> None:
    """Weights read from a file lie in memory as they lie in the file, and products over memory of another
    alignment round otherwise: a resumed run would drift from one left alone."""
    for tensor in (*detector.parameters(), *detector.buffers()):
        tensor.data = tensor.data.clone()


def _checkpoint_activations(detector: PreTrainedModel) -> None:
    # transformers 5 renamed it on the way.
    enable = getattr(detector, "activation_checkpointing_enable", detector.gradient_checkpointing_enable)
    try:
        enable()
    except ValueError as error:
        raise FocusDetrError(
            f"gradient_checkpointing=True: {type(detector).__name__} does not support it; set it to false"
        ) from error


def processor_folder(checkpoint: Path | None, output: Path) -> Path | None:
    """Where a resumed run's image processor is: it goes on with the pixels it began with."""
    if checkpoint is None:
        return None
    folders = (checkpoint, output / "best")  # checkpoints of versions before 0.4 hold none
    return next((each for each in folders if (each / "preprocessor_config.json").is_file()), None)


def build_image_processor(model: str | Path | PreTrainedModel, recipe: Recipe) -> FocusDetrImageProcessor:
    """The recipe's image sizes; pixels as the backbone's weights know them, or as a trained model does."""
    from focus_detr.images.processor import FocusDetrImageProcessor
    from focus_detr.models.backbones.catalogue import image_normalization
    from focus_detr.models.backbones.weights import pretrained_normalization
    from focus_detr.zoo.loading import load_image_processor
    from focus_detr.zoo.presets import is_preset, preset
    from focus_detr.zoo.resolve import resolve_model

    settings: dict[str, Any] = {"size": recipe.image_size}
    if recipe.nms_threshold is not None:  # else a trained model keeps its own
        settings["nms_threshold"] = recipe.nms_threshold
    if not isinstance(model, PreTrainedModel) and not is_preset(str(model)):
        return load_image_processor(resolve_model(model), **settings)
    config = model.config if isinstance(model, PreTrainedModel) else preset(str(model), **recipe.model)
    backbone = getattr(config, "backbone_config", None)
    source = None if isinstance(model, PreTrainedModel) else _weights(str(model), recipe)
    if backbone is not None:
        normalization = (
            pretrained_normalization(source, backbone)
            if source is not None
            else image_normalization(backbone)
        )
        settings["image_mean"], settings["image_std"] = map(list, normalization)
    return FocusDetrImageProcessor(**settings, scoring=getattr(config, "scoring", "sigmoid"))
