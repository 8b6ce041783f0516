"""Candidates: what is measured, from what people write on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError

if TYPE_CHECKING:
    import torch

    from focus_detr.inference import Predictor
    from focus_detr.models.configuration import FocusDetrConfig

PRESET, DEPLOYED = "preset:", "deployed:"
# What a size is by default: that which the model's image processor makes of such a picture.
USUAL_PICTURE = (640, 480)


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        name: a bundled model, a folder, a preset (random weights; also ``preset:NAME``), an exported file;
            ``deployed:NAME`` is the model as `focus_detr.deploy.deploy` makes it. Fields of a preset are said
            behind it: ``deformable-r50,token_policy=salience``.
        keep_ratio, budget, decoder_layers: in place of the model's own.
        trust_plugins: import the modules that the model names, which runs their code.
    """

    name: str
    keep_ratio: float | None = None
    device: str | None = None
    dtype: str | None = None
    trust_plugins: bool = False
    budget: float | None = None
    decoder_layers: int | None = None


@dataclass
class Candidate:
    """A model ready to run.

    Attributes:
        config: None for exported files, whose operations cannot be counted.
        trained: False for presets.
    """

    request: Request
    predictor: Predictor
    config: FocusDetrConfig | None
    trained: bool

    def work(self, size: tuple[int, int], batch: int) -> Callable[[], Any]:
        """One forward pass for a batch of random images of ``size`` (height, width)."""
        import torch

        generator = torch.Generator().manual_seed(0)
        pixel_values = torch.randn(batch, 3, *size, generator=generator)
        pixel_mask = torch.ones(batch, *size, dtype=torch.uint8)
        model = self.predictor.model
        if not isinstance(model, torch.nn.Module):
            return lambda: model.infer(pixel_values, pixel_mask)
        pixel_values = pixel_values.to(self.predictor.device, self.predictor.dtype)
        pixel_mask = pixel_mask.to(self.predictor.device)

        @torch.inference_mode()
        def run() -> Any:
            return model(pixel_values=pixel_values, pixel_mask=pixel_mask)

        return run

    def finish(self) -> None:
        """Wait until the GPUs have done all they were given."""
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.synchronize()


def load_candidate(request: Request) -> Candidate:
    """Find and load what is asked for.

    Raises:
        FocusDetrError: no such model, or it cannot be had in this form.
    """

    from focus_detr.inference import Predictor
    from focus_detr.models.configuration import FocusDetrConfig
    from focus_detr.zoo.presets import is_preset
    from focus_detr.zoo.resolve import list_models

    name, deployed = request.name.removeprefix(DEPLOYED), request.name.startswith(DEPLOYED)
    base = name.partition(",")[0]
    known = is_preset(base) and base not in list_models()
    _dtype(request.dtype)
    dtype = None if deployed else request.dtype
    if name.startswith(PRESET) or known:
        predictor, trained = _from_preset(name.removeprefix(PRESET), request.device, dtype), False
    else:
        trained = True
        predictor = Predictor.from_pretrained(
            name, device=request.device, dtype=dtype, trust_plugins=request.trust_plugins
        )
    config = getattr(predictor.model, "config", None)
    config = config if isinstance(config, FocusDetrConfig) else None
    if config is None and (request.dtype is not None or deployed):
        asked = "deployed" if deployed else f"dtype={request.dtype!r}"
        raise FocusDetrError(f"{name}: {asked} is settled in an exported file; export the model anew")
    if request.keep_ratio is not None:
        _set_keep_ratio(name, predictor.model, request.keep_ratio)
    if request.budget is not None:
        predictor.set_budget(request.budget)
    if request.decoder_layers is not None:
        predictor.set_decoder_layers(request.decoder_layers)
    if deployed:
        from focus_detr.deploy.deploy import deploy
        from focus_detr.models.detector import FocusDetrForObjectDetection

        assert isinstance(predictor.model, FocusDetrForObjectDetection)
        predictor.model = deploy(predictor.model, dtype=request.dtype)
    return Candidate(request, predictor, config, trained)


def selects_tokens(config: FocusDetrConfig | None) -> bool:
    """Whether a keep ratio means anything to such a model."""
    if config is None:
        return False
    from focus_detr.models.policies import POLICIES

    return POLICIES[config.token_policy].has_keep_ratio


def takes_budget(candidate: Candidate) -> bool:
    """Whether a budget means anything to a model, or to an exported file."""
    if candidate.config is None:
        model = getattr(getattr(candidate, "predictor", None), "model", None)
        return bool(getattr(model, "takes_budget", False))
    from focus_detr.models.policies import POLICIES

    return POLICIES[candidate.config.token_policy].takes_budget


def prepare(request: Request, size: tuple[int, int], batch: int, threads: int | None) -> Callable[[], Any]:
    """Load a candidate and give its work; for a process of its own (`peak_memory`)."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return load_candidate(request).work(size, batch)


def _from_preset(name: str, device: str | None, dtype: str | None) -> Predictor:
    import torch
    from transformers import PreTrainedConfig

    from focus_detr.images.processor import FocusDetrImageProcessor
    from focus_detr.inference import Predictor
    from focus_detr.models import FocusDetrForObjectDetection
    from focus_detr.models.backbones.catalogue import image_normalization
    from focus_detr.models.configuration import FocusDetrConfig

    name, *said = name.split(",")
    config = FocusDetrConfig.from_preset(name, **_fields(name, said))
    assert isinstance(config.backbone_config, PreTrainedConfig)
    mean, std = image_normalization(config.backbone_config)
    processor = FocusDetrImageProcessor(image_mean=mean, image_std=std, scoring=config.scoring)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: torch.nn.Module = FocusDetrForObjectDetection(config)
    kind = _dtype(dtype)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Predictor(model.to(target, kind), processor)


def _fields(name: str, said: list[str]) -> dict[str, Any]:
    """`["keep_ratio=0.3"]` to `{"keep_ratio": 0.3}`."""
    import yaml

    fields = {}
    for pair in said:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise FocusDetrError(f"{name},{pair}: must be key=value, as in {name},token_policy=sparse")
        fields[key.strip()] = yaml.safe_load(value)
    return fields


def _dtype(name: str | None) -> torch.dtype:
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name is not None and name not in known:
        raise FocusDetrError(f"dtype={name!r}: not known; use one of {', '.join(known)}")
    return known[name or "float32"]


def _set_keep_ratio(name: str, model: Any, keep_ratio: float) -> None:
    config: Any = getattr(model, "config", None)
    if not 0 < keep_ratio <= 1:
        raise FocusDetrError(f"keep_ratio={keep_ratio}: must lie in (0, 1]; the paper uses 0.5")
    if not selects_tokens(config):
        raise FocusDetrError(f"{name}: has no keep ratio to set: it selects no tokens by one, or is exported")
    config.keep_ratio = keep_ratio
    model.encoder.change_options(keep_ratio=keep_ratio)
