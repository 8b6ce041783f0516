"""The configuration of a model: typed, strict, serialisable.

Every switch that changes what a model computes is a field here and is saved with the weights: class
names, position encoding, token policy, quirks. An unknown key or an unusable value is refused at once.
"""

import dataclasses
import math
import os
import warnings
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.images.settings import Setting
from focus_detr.models.backbones.catalogue import as_backbone_config, backbone_config
from focus_detr.models.options import FORMER, in_place, option_names
from focus_detr.models.plugins import named_by_a_file
from focus_detr.models.registry import read_options
from focus_detr.structures.auto_budget import AutoBudget
from focus_detr.structures.budget import AUTO, Budget


@dataclasses.dataclass(frozen=True)
class Quirks:
    """What the released Focus-DETR does otherwise than one would; True is as released.

    ``Quirks.named("original")`` reproduces the release for its weights, ``Quirks.named("corrected")`` is the
    default of new models. Where the release crashes (small images, batches without objects) both work: that
    changes nothing for inputs it could process.
    """

    frozen_values: bool = False
    """Every encoder layer samples the neck's features; corrected: tokens as the layer before left them."""
    raw_category_product: bool = False
    """Fine-grained tokens are ranked by the product of two raw logits, in which two negatives rank first;
    corrected: the product of the two probabilities."""
    padded_fine_tokens: bool = False
    """Padded tokens may be picked as fine-grained ones, and attended to."""
    batch_counts: bool = False
    """The largest image of a batch sets the cascade's counts for all, and the write-back of a smaller one is
    cut at its unscaled count; corrected: each image keeps its own counts."""
    batch_fill: bool = False
    """Padded tokens take the lowest score of the batch, and may be kept; corrected: they rank last."""
    unmasked_evaluation: bool = False
    """Padding masks are ignored in evaluation, so that padding passes for image."""
    padded_statistics: bool = False
    """The selector's level average counts padding, and scores are upsampled across it."""
    padded_foreground_loss: bool = False
    """Padding counts as background in the selector's loss."""
    naive_focal: bool = False
    """The selector's focal loss takes the log of a saturating sigmoid: infinite beyond logits of about 17."""
    padded_backbone: bool = False
    """Backbone and neck see the padded canvas, and the padding leaks into features and normalisation;
    corrected: images of one size go through together, without padding."""
    canvas_query_position: bool = False
    """The decoder encodes box positions relative to the padded canvas; corrected: relative to the image."""
    shifted_attention_map: bool = False
    """Sparse DETR lays the decoder's attention on the token grid half a cell too far right and below."""
    padded_queries: bool = False
    """Padded tokens may become object queries."""
    padded_fusion: bool = False
    """Salience-DETR's fusion network sees the padded canvas, and its batch statistics count padding."""
    canvas_centres: bool = False
    """Salience labels place a token by its cell's share of the padded canvas; corrected: of the image."""

    @classmethod
    def named(cls, name: str) -> "Quirks":
        """All quirks on (``"original"``) or off (``"corrected"``)."""
        if name not in ("original", "corrected"):
            raise FocusDetrError(
                f"quirks={name!r}: not known; use 'original', 'corrected' or a dict of switches"
            )
        return cls(**{field.name: name == "original" for field in dataclasses.fields(cls)})

    @classmethod
    def resolve(cls, value: "str | dict[str, bool] | Quirks") -> "Quirks":
        """From a name, or from a dict of switches over the corrected defaults."""
        if isinstance(value, Quirks):
            return value
        if isinstance(value, str):
            return cls.named(value)
        names = [field.name for field in dataclasses.fields(cls)]
        for key, switch in value.items():
            if key not in names:
                known = ", ".join(names)
                raise FocusDetrError(
                    f"quirks: unknown switch {key!r}{did_you_mean(key, names)}; known: {known}"
                )
            if not isinstance(switch, bool):
                raise FocusDetrError(f"quirks[{key!r}]={switch!r}: must be true or false")
        return cls(**value)


@strict
class FocusDetrConfig(PreTrainedConfig):
    """Configuration of `FocusDetrForObjectDetection`.

    `FocusDetrConfig.from_preset(name)` gives the released models and the small ones; see `list_presets()`.

    Args:
        backbone_config: a `transformers` backbone configuration (ResNet, Swin, EfficientNet-Lite, ...).
        freeze_stem, freeze_stages, train_norm_affine: what of the backbone is trained (see `build_backbone`).
        num_levels: feature levels; those beyond the backbone's outputs are made by strided convolutions.
        neck_norm: group normalisation of the levels; False where the backbone's maps are to reach the encoder
            as they are.
        host: how queries are made, decoded and matched: "dino" (see `focus_detr.models.hosts`).
        token_policy: what the encoder does to which tokens: "focus" (foreground selection, cascade, dual
            attention), "dense" (every token), or another of `focus_detr.models.policies`.
        host_options, policy_options: options of that host and that policy alone, which stand beside their
            classes: `FocusOptions` (keep_ratio, cascade, ...), `DinoOptions` (denoising_queries, ...), ...
        budget: mean share of tokens that an encoder layer works on where a call says none; None is what the
            policy's options say (see `Budget`), "auto" what each picture calls for.
        auto_budget: the rule that "auto" goes by (see `AutoBudget`), which `calibrate` finds.
        used_decoder_layers: how many decoder layers are run where a call says none, outside of training; each
            has heads of its own, so that the first of them answer, too. None is all.
        activation_ranges: least and largest input of layers by name, of a model trained for 8 bits.
        settings: points that it can be run at, by name (see `Setting`), which `calibrate --frontier` finds.
        heads: what is said of every query beside its class and box, see `focus_detr.models.heads`;
            head_options: options by the name of the head.
        plugins: modules of your own that register the host, the policy or a head, imported first.
        num_queries: object queries; fewer are used where an image has fewer tokens.
        num_detections: detections returned per image at most.
        position_temperature, position_offset: the sine encoding's; not stored in the original's checkpoints.
        category_ids: the data set's own category ids, by label.
        score_threshold: lowest score that is reported where a call says none; 0.5 where it is None.
        class_thresholds: that of single classes, by name.
        quirks: "original", "corrected", or a dict of the switches of `Quirks`.
    """

    model_type = "focus_detr"
    attribute_map = {"hidden_size": "d_model", "num_attention_heads": "attention_heads"}
    sub_configs = {"backbone_config": PreTrainedConfig}

    backbone_config: dict | PreTrainedConfig | None = None
    freeze_stem: bool | None = None
    freeze_stages: int = 0
    train_norm_affine: bool | None = None
    num_levels: int = 4
    neck_norm: bool = True
    d_model: int = 256
    attention_heads: int = 8
    num_points: int = 4
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    dropout: float | int = 0.0
    position_temperature: float | int = 10000.0
    position_offset: float | int = -0.5

    host: str = "dino"
    host_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    token_policy: str = "focus"
    policy_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    budget: float | int | str | None = None
    auto_budget: dict[str, Any] | None = None
    used_decoder_layers: int | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    activation_ranges: dict[str, Any] = dataclasses.field(default_factory=dict)
    heads: list[str] = dataclasses.field(default_factory=list)
    head_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    plugins: list[str] = dataclasses.field(default_factory=list)

    num_queries: int = 900
    num_detections: int = 300

    class_cost: float | int = 2.0
    bbox_cost: float | int = 5.0
    giou_cost: float | int = 2.0
    class_loss_coefficient: float | int = 1.0
    bbox_loss_coefficient: float | int = 5.0
    giou_loss_coefficient: float | int = 2.0
    focal_alpha: float | int = 0.25
    focal_gamma: float | int = 2.0

    category_ids: list[int] | None = None
    score_threshold: float | int | None = None
    class_thresholds: dict[str, Any] = dataclasses.field(default_factory=dict)
    training_recipe: dict | None = None
    quirks: str | dict[str, Any] = "corrected"

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs = self._place(kwargs)
        _refuse_unknown(type(self), kwargs)
        chosen = self.backbone_config
        self.backbone_config = backbone_config("resnet50") if chosen is None else as_backbone_config(chosen)
        super().__post_init__(**kwargs)
        self.quirks = dataclasses.asdict(Quirks.resolve(self.quirks))
        self.check()

    def _place(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # Flat names, of files before 0.2 or of callers who are told, become options.
        flat = {name: value for name, value in kwargs.items() if name in FORMER}
        if flat:
            parts = ("host", "token_policy", "host_options", "policy_options", "plugins")
            placed = in_place({**flat, **{part: getattr(self, part) for part in parts}})
            self.host_options, self.policy_options = placed["host_options"], placed["policy_options"]
        for name in () if named_by_a_file() else flat:
            owner = self._owner(name)
            said = f"{owner}={{{name!r}: ...}}" if owner else "nothing: neither host nor policy has it"
            warnings.warn(f"{name} is now said as {said}", FutureWarning, stacklevel=5)
        return {name: value for name, value in kwargs.items() if name not in flat}

    def _owner(self, name: str) -> str | None:
        # Of the options of this name: "policy_options", "host_options" or None.
        for owner, options_class in self._options_classes().items():
            if name in option_names(options_class):
                return owner
        return None

    def _options_classes(self) -> dict[str, type]:
        from focus_detr.models.hosts import HOSTS
        from focus_detr.models.policies import POLICIES

        return {
            "policy_options": POLICIES[self.token_policy].options_class,
            "host_options": HOSTS[self.host].options_class,
        }

    def to_dict(self) -> dict[str, Any]:
        """As `transformers.PreTrainedConfig.to_dict`, with every option, those not named too: what is saved
        says what the model computes, whatever becomes of defaults."""
        values = super().to_dict()
        for owner, options_class in self._options_classes().items():
            options = dataclasses.asdict(read_options(options_class, getattr(self, owner), owner))
            values[owner] = {n: list(v) if isinstance(v, tuple) else v for n, v in options.items()}
        return values

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is no field: options by their flat names.
        owner = self._owner(name) if name in FORMER and "plugins" in self.__dict__ else None
        if owner is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(read_options(self._options_classes()[owner], getattr(self, owner), owner), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FORMER:
            self._set_option(name, value)
            return
        _check_value(self.attribute_map.get(name, name), value)
        super().__setattr__(name, value)

    def _set_option(self, name: str, value: Any) -> None:
        owner = self._owner(name)
        if owner is None:
            pair = f"token_policy={self.token_policy!r} nor host={self.host!r}"
            raise FocusDetrError(f"{name}={value!r}: neither {pair} has it")
        before = getattr(self, owner)
        setattr(self, owner, {**before, name: value})
        try:
            self._check_parts()
        except FocusDetrError:
            setattr(self, owner, before)
            raise

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "FocusDetrConfig":
        """The configuration named ``name`` (see `list_presets()`), with fields overridden."""
        from focus_detr.zoo.presets import preset

        return preset(name, **overrides)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As `transformers.PreTrainedConfig.from_dict`, the way of every file.

        Modules that a file names as `plugins` are imported with ``trust_plugins=True`` alone, unless the
        caller has imported them already.
        """
        from focus_detr.models.plugins import named_by_file, trusting_plugins

        _refuse_hub_kernels(config_dict)
        with named_by_file(), trusting_plugins(kwargs.pop("trust_plugins", False)):
            return super().from_dict(config_dict, **kwargs)

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Any:
        """As `transformers.PreTrainedConfig.from_json_file`; plugins as in `from_dict`."""
        from focus_detr.models.plugins import named_by_file

        with named_by_file():
            return super().from_json_file(json_file)

    @property
    def switches(self) -> Quirks:
        """The quirks as a `Quirks` object."""
        return Quirks.resolve(self.quirks)

    @property
    def scoring(self) -> str:
        """How an image processor reads the logits of its host: "sigmoid" or "softmax"."""
        from focus_detr.models.hosts import HOSTS
        from focus_detr.models.plugins import import_plugins

        import_plugins(self.plugins)
        return HOSTS[self.host].scoring

    def check(self) -> None:
        """Raise FocusDetrError where values that are each usable do not go together.

        A new configuration is checked, and so is that of a new model: it may have been changed in between.
        """
        if self.d_model % self.attention_heads or self.d_model % 4:
            raise FocusDetrError(
                f"d_model={self.d_model}: must be a multiple of 4 "
                f"and of attention_heads={self.attention_heads}"
            )
        self._check_parts()
        if self.category_ids is not None and len(self.category_ids) != self.num_labels:
            raise FocusDetrError(
                f"category_ids has {len(self.category_ids)} entries for {self.num_labels} classes; "
                "needs one each"
            )
        if self.category_ids is not None and len(set(self.category_ids)) != len(self.category_ids):
            raise FocusDetrError(f"category_ids={self.category_ids}: an id stands for two classes")
        if not self.num_labels:
            raise FocusDetrError("num_labels=0: a detector needs at least one class")
        maps = getattr(self.backbone_config, "out_features", None) or []
        if len(maps) > self.num_levels:
            raise FocusDetrError(
                f"num_levels={self.num_levels}: the backbone gives {len(maps)} maps (out_features={maps}); "
                "use as many levels, or name fewer of them"
            )

    def _check_parts(self) -> None:
        from focus_detr.models.heads import HEADS
        from focus_detr.models.hosts import HOSTS
        from focus_detr.models.plugins import import_plugins
        from focus_detr.models.policies import POLICIES

        import_plugins(self.plugins)
        host, policy = HOSTS[self.host], POLICIES[self.token_policy]
        if not policy.works_with(self.host):
            able = ", ".join(name for name in HOSTS.names() if policy.works_with(name))
            raise FocusDetrError(
                f"token_policy={self.token_policy!r} does not work with host={self.host!r}; "
                f"it works with {able}"
            )
        host.check(self)
        policy.check(self)
        for name in self.heads:
            HEADS[name].check(self, self.head_options.get(name, {}))
        for name in self.head_options:
            if name not in self.heads:
                hint = did_you_mean(name, self.heads)
                raise FocusDetrError(f"head_options: {name!r} is none of heads={self.heads}{hint}")


_COUNTS = (
    "num_levels", "d_model", "attention_heads", "num_points", "encoder_layers", "decoder_layers",
    "encoder_ffn_dim", "decoder_ffn_dim", "num_queries", "num_detections",
)  # fmt: skip

_RANGES = {
    "dropout": (0, 1),
    "freeze_stages": (0, math.inf),
    "focal_alpha": (0, 1),
    "focal_gamma": (0, math.inf),
    "class_cost": (0, math.inf),
    "bbox_cost": (0, math.inf),
    "giou_cost": (0, math.inf),
    "class_loss_coefficient": (0, math.inf),
    "bbox_loss_coefficient": (0, math.inf),
    "giou_loss_coefficient": (0, math.inf),
    "score_threshold": (0, 1),
}


def _check_value(name: str, value: Any) -> None:
    """Refuse a field's value that no other field could make usable; its type is checked by then."""
    if name in _COUNTS and value < 1:
        raise FocusDetrError(f"{name}={value}: must be at least 1")
    if name in _RANGES and value is not None:
        low, high = _RANGES[name]
        if not low <= value <= high:
            raise FocusDetrError(f"{name}={value}: must lie in [{low}, {high}]")
    if name == "class_thresholds":
        for each, score in value.items():
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise FocusDetrError(f"{name}[{each!r}]={score!r}: must be a score between 0 and 1")
    if name == "position_temperature" and not value > 0:
        raise FocusDetrError(f"position_temperature={value}: must be positive")
    if name == "quirks":
        Quirks.resolve(value)
    if name == "budget" and value != AUTO:
        Budget.of(value)
    if name == "auto_budget" and value is not None:
        AutoBudget.of(value)
    if name == "activation_ranges":
        _check_activation_ranges(value)
    if name == "settings":
        for each, values in value.items():
            Setting.of(each, values)


def _check_activation_ranges(value: dict[str, Any]) -> None:
    for layer, pair in value.items():
        ends = list(pair) if isinstance(pair, list | tuple) else []
        numbers = [each for each in ends if isinstance(each, int | float) and not isinstance(each, bool)]
        if len(ends) != 2 or len(numbers) != 2 or not numbers[0] <= 0 <= numbers[1]:
            raise FocusDetrError(
                f"activation_ranges[{layer!r}]={pair!r}: must be the least and the largest input, with 0 "
                "among them"
            )


def _refuse_hub_kernels(values: Any) -> None:
    """transformers would fetch such a kernel from the hub, code and all, and run it."""
    for key, value in values.items() if isinstance(values, dict) else ():
        named = value.values() if isinstance(value, dict) else (value,)
        if "attn_implementation" in str(key) and any("/" in each for each in named if isinstance(each, str)):
            raise FocusDetrError(
                f"{key}={value!r}: asks for code from the Hugging Face hub, which is not loaded; take that "
                "line out of config.json"
            )
        _refuse_hub_kernels(value)


def _refuse_unknown(config_class: type[PreTrainedConfig], kwargs: dict[str, Any]) -> None:
    # transformers itself passes these on top of the fields, when loading and in its pipelines.
    inherited = {"num_labels", "torch_dtype", "name_or_path", "_name_or_path", "_commit_hash", "model_type"}
    inherited |= {"output_attentions", "attn_implementation", "_attn_implementation_autoset", "auto_map"}
    inherited |= {"use_cache"}  # its Trainer leaves it in the configurations of what it trained
    inherited |= {"use_return_dict", "tf_legacy_loss", "use_bfloat16", "_from_pipeline", "_from_auto"}
    known = {*FORMER, *(field.name for field in dataclasses.fields(config_class))}
    for key in kwargs:
        if key not in inherited and not key.startswith("_"):
            raise FocusDetrError(
                f"{config_class.__name__}: unknown key {key!r}{did_you_mean(key, sorted(known))}"
            )
