"""Predictor: from sources to detections, batch by batch."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.settings import Setting, setting_named
from focus_detr.inference.choosing import Threshold, checked_threshold, lowest_scores
from focus_detr.inference.costs import Costs, seconds_of
from focus_detr.inference.deadline import DeadlineKeeper, usual_budget
from focus_detr.inference.memory import explained_memory
from focus_detr.inference.outputs import RawOutput
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.files import Sources, expected_images, images_of, source_entries
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.inference.streaming import Stream
from focus_detr.inference.tiles import Tiling
from focus_detr.inference.tracking.tracking import Tracking
from focus_detr.structures.auto_budget import AutoBudget, BudgetLike
from focus_detr.structures.budget import AUTO, SMALLEST, Budget
from focus_detr.structures.classes import Classes, reported_classes
from focus_detr.structures.of_torch import is_module
from focus_detr.structures.pixel_masks import HEAD, PixelMasks

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from focus_detr.inference.steadying import Steadying
    from focus_detr.models.policies.base import Ranking

DEFAULT_THRESHOLD = 0.5
DEFAULT_MAX_DETECTIONS = 300


class Detector(Protocol):
    """Anything that answers a batch: an exported file is a model like any other."""

    def infer(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Any, ...]:
        """pixel_values (B,3,H,W), pixel_mask (B,H,W) -> logits (B,Q,k), pred_boxes (B,Q,4) boxes_cxcywh, and
        a dict of what else it says, as the model's own ``extra``, where it says anything."""
        ...


class Predictor:
    """Finds objects in images, one at a time or in batches, with the same answers either way.

    Args:
        model: a `torch.nn.Module` called with `pixel_values` and `pixel_mask`, or any `Detector`.
        processor: makes batches of images, and detections of outputs (`FocusDetrImageProcessor`).
        class_names: by label; by default those of the model's configuration.
        threshold: score that detections must reach where `predict` is not told; by default the one stored in
            the model's configuration (`score_threshold`), else 0.5, and those of classes beside it
            (`class_thresholds`).
    """

    def __init__(
        self,
        model: nn.Module | Detector,
        processor: Any,
        class_names: Sequence[str] | None = None,
        *,
        threshold: float | None = None,
    ) -> None:
        config = getattr(model, "config", None)
        scoring = getattr(config, "scoring", None)
        if scoring is not None and getattr(processor, "scoring", scoring) != scoring:
            raise FocusDetrError(
                f"Predictor: the model's scores are to be read as scoring={scoring!r} and not as the image "
                f"processor's {processor.scoring!r}; make it with scoring={scoring!r}"
            )
        if class_names is None:
            id2label = getattr(config, "id2label", None)
            if not id2label:
                raise FocusDetrError("Predictor: the model names no classes; pass class_names=[...]")
            class_names = [id2label[label] for label in sorted(id2label)]
        by_class: Mapping[str, float] = {}
        if threshold is None:
            threshold = getattr(config, "score_threshold", None)
            by_class = getattr(config, "class_thresholds", by_class)
        self.model = cast(Any, model).eval() if is_module(model) else model
        self.processor = processor
        self.class_names = tuple(class_names)
        self.threshold = checked_threshold(DEFAULT_THRESHOLD if threshold is None else threshold)
        self.class_thresholds = {name: by_class[name] for name in self.class_names if name in by_class}
        """Of classes that have one of their own, by name."""
        self.max_detections: int = getattr(config, "num_detections", DEFAULT_MAX_DETECTIONS)
        self.setting = Setting()
        """What calls take that say none (see `at`)."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        deploy: bool = False,
        trust_plugins: bool = False,
        bare: bool = False,
    ) -> Predictor:
        """A predictor for a bundled model, a folder, an exported file, or a model on the hub.

        Args:
            device: by default a GPU where there is one.
            dtype: of the weights, as in `"float16"`; by default as stored.
            deploy: bring the model into the form that infers fastest (see `deploy`), in ``dtype``.
            trust_plugins: import the modules that the model's configuration names, which runs their code.
            bare: the model is for prediction alone (see `load_detector`): it is there in half the time.
        """
        from focus_detr.zoo.resolve import resolve_model

        folder = resolve_model(name_or_path)
        if folder.is_file():
            return cls._exported(folder, device, dtype, deploy)
        from focus_detr.zoo.loading import load_detector, load_image_processor, load_model

        if bare and dtype is None and not deploy:
            model, processor = load_detector(folder, trust_plugins=trust_plugins)
            return cls(model.to(checked_device(device)), processor)
        stored = "auto" if dtype is None or deploy else dtype
        model = load_model(folder, stored, trust_plugins=trust_plugins).to(checked_device(device))
        if deploy:
            from focus_detr.deploy.deploy import deploy as deployed

            model = deployed(model, dtype=dtype)
        return cls(model, load_image_processor(folder))

    @classmethod
    def _exported(
        cls, path: Path, device: str | torch.device | None, dtype: str | torch.dtype | None, deploy: bool
    ) -> Predictor:
        from focus_detr.export import load_exported

        if deploy or dtype is not None:
            raise FocusDetrError(
                f"{path}: an exported model is in the form and precision its runtime wants; leave out deploy "
                "and dtype"
            )
        detector = load_exported(path, device)
        return cls(detector, detector.processor)

    def at(self, setting: str | Setting) -> Predictor:
        """A predictor of the same model whose calls take this setting where they say no other: one of those
        that the model has by name (`calibrate --frontier`), or any.

        Raises:
            FocusDetrError: the model has none of that name, or cannot be run so.
        """
        if not isinstance(setting, Setting):
            setting = setting_named(getattr(getattr(self.model, "config", None), "settings", None), setting)
        other = copy.copy(self)
        other.setting = setting
        if setting.size is not None:
            if not is_module(self.model):
                raise FocusDetrError(
                    f"setting: size={setting.size}: an exported file has its own; export the "
                    "model with the setting"
                )
            kind, settings = type(self.processor), self.processor.settings()
            other.processor = kind(**{**settings, "size": setting.size})
        other.accept_budget(None)
        other.accept_decoder_layers(None)
        return other

    @property
    def gives_masks(self) -> bool:
        """Whether its detections have masks."""
        return HEAD in (getattr(getattr(self.model, "config", None), "heads", None) or ())

    @property
    def device(self) -> torch.device:
        return self._first_parameter().device

    @property
    def dtype(self) -> torch.dtype:
        return self._first_parameter().dtype

    def _first_parameter(self) -> Tensor:
        import torch

        parameters = cast(Any, self.model).parameters() if is_module(self.model) else iter(())
        return next(parameters, torch.empty(0))

    def predict(
        self,
        sources: Sources,
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        batch_size: int = 1,
        budget: BudgetLike = None,
        decoder_layers: int | None = None,
        tile: int | str | None = None,
        overlap: float | None = None,
        deadline: float | str | None = None,
        track: bool = False,
        detect_every: int = 1,
        steady: float = 0.0,
        progress: bool = False,
        keep_images: bool = False,
        known: Callable[[str], Detections | BadImage | None] | None = None,
        **options: Any,
    ) -> Generator[Detections | BadImage]:
        """The objects of each image, in order, as they are found; a `BadImage` where none can be read.

        Args:
            sources: see `expand_sources`.
            threshold: score that detections must reach, 0..1; or scores by class, as in `{"person": 0.5}`,
                where the other classes need the model's own.
            classes: names or labels of those wanted; or what each of them is reported as, as in
                `{"car": "vehicle", "truck": "vehicle"}` (see `reported_classes` for their labels).
            batch_size: images that go through the model together.
            budget: mean share of tokens that an encoder layer works on, in [0.05, 1]: less is faster, 1 is
                all; what the model is configured for when not given. Models that select tokens take one.
                "auto" chooses one for each picture, which it says, by the rule that `calibrate` found.
            decoder_layers: run so many of the model's decoder layers, the first ones, each of which has heads
                of its own: fewer are faster. What the model is set to when not given, or all.
            tile: look at pictures in tiles of so many pixels a side, at several scales; "auto" for those that
                the model would see at less than half their own, in tiles of the size that it sees (see
                `focus_detr.inference.tiles`). `batch_size` is then that of tiles.
            overlap: share of a tile's side that it has in common with the next at least; 0.2 when not given.
            deadline: time for one picture, from the picture in memory to its detections: seconds, or as in
                `"50ms"`. Each picture gets the largest budget that meets it here and now (see
                `focus_detr.inference.deadline`), at most ``budget``; where none is given, at most the one
                that is set, or that the model was trained for. Pictures are then computed one at a time, and
                say their budget.
            track: number the objects of videos, the same from frame to frame (see
                `focus_detr.inference.tracking.Tracking`).
            detect_every: frames of a video that is tracked from one that is detected to the next; between
                them, boxes move as their tracks did.
            steady: of videos, the share, 0..1, of a token's rank that the scores of the frames before have;
                for models that choose tokens by foreground scores (see `focus_detr.inference.steadying`).
            progress: show a progress bar.
            keep_images: keep each image with its detections, for drawing.
            known: gives the result of an image, by its name, where an earlier run found it, and None of one
                to be looked at. Of those, frames of videos alone are kept.
            options: of sources: `every` n-th frame of videos, or `fps` of them, and what one image may cost,
                `timeout` in seconds, `max_megabytes`, `max_pixels`, `private_redirects` (see
                `focus_detr.inference.sources.options.SourceOptions`).

        Raises `FocusDetrError` at once when options cannot be used or there is no image at all.
        """
        own = (name for name in signature(self.predict).parameters if name != "options")
        source_options = SourceOptions.of(options, own)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise FocusDetrError(f"batch_size={batch_size!r}: must be a whole number, 1 or more")
        threshold = self.threshold_by_label(threshold)
        if classes is not None:
            reported_classes(classes, self.class_names)
        layers = self.accept_decoder_layers(decoder_layers)
        budget = self.accept_budget(budget)
        tiling = Tiling.of(tile, overlap)
        keeper = None if deadline is None else self._keeper(deadline, batch_size, budget, layers)
        if keeper is not None and tiling is not None:
            raise FocusDetrError("deadline: is for pictures looked at whole; leave it out, or tile")
        if detect_every != 1 and not track:
            raise FocusDetrError(f"detect_every={detect_every!r}: is of tracking; give track=True, too")
        steadying = self._steadying(steady, tiling)
        tracking = Tracking(threshold, self.class_names, classes, detect_every) if track else None
        entries: Any = source_entries(sources, source_options)
        total = None
        if progress and isinstance(sources, str | os.PathLike | Sequence):
            entries = list(entries)
            total = expected_images(entries)
        bar = {"total": total, "disable": not progress}
        images = images_of(entries)
        wanted: dict[str, Any] = {
            "threshold": threshold,
            "classes": classes,
            "budget": keeper or budget,
            "decoder_layers": layers,
        }
        if tracking is not None:
            wanted["threshold"] = tracking.detection_threshold
        stream = Stream(self, wanted, batch_size, tiling, tracking, steadying, keep_images, known)
        return stream.of(images, bar)

    def _steadying(self, share: float, tiling: Tiling | None) -> Steadying | None:
        if share == 0 and not isinstance(share, bool):
            return None
        from focus_detr.inference.steadying import Steadying

        steadying = Steadying(share)
        if tiling is not None:
            raise FocusDetrError("steady: is of pictures looked at whole; leave it out, or tile")
        check = getattr(getattr(self.model, "encoder", None), "check_ranking", None)
        if check is None:
            raise FocusDetrError("steady: needs a model of ours, in PyTorch; leave it out")
        check("steady")
        return steadying

    def detect(
        self,
        images: Sequence[Image.Image],
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        paths: Sequence[str] | None = None,
        budget: BudgetLike | DeadlineKeeper = None,
        decoder_layers: int | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
        ranking: Ranking | None = None,
    ) -> list[Detections]:
        """The objects of RGB images that go through the model as one batch; see `decode`."""
        if not images:
            return []
        if not isinstance(budget, DeadlineKeeper):
            outputs = self.run(images, budget, ranking=ranking, decoder_layers=decoder_layers)
            return self.decode(
                outputs, images, threshold=threshold, classes=classes, paths=paths, sizes=sizes
            )
        keeper, clock = budget, budget.costs.clock
        if not keeper.started:
            self._start(keeper, images, decoder_layers)
        begun = clock()
        pixel_values, pixel_mask = self._prepared(images)
        spent = clock() - begun
        size = (pixel_values.shape[2], pixel_values.shape[3])
        keeper.costs.of(size)  # where it is new, what it takes is measured now, which is not of this picture
        begun = clock()
        chosen = keeper.choose(size, spent)
        said: dict[str, Any] = {"decoder_layers": decoder_layers, "ranking": ranking}
        outputs = self.run_prepared(pixel_values, pixel_mask, budget=chosen, **said)
        found = self.decode(outputs, images, threshold=threshold, classes=classes, paths=paths, sizes=sizes)
        taken = clock() - begun
        keeper.learn(size, chosen, taken)
        return [replace(each, budget=chosen.share, latency=spent + taken) for each in found]

    def _keeper(
        self,
        deadline: float | str,
        batch_size: int,
        most: Budget | AutoBudget | None,
        layers: int | None,
    ) -> DeadlineKeeper:
        seconds = seconds_of(deadline)
        if isinstance(most, AutoBudget):
            raise FocusDetrError(f"deadline and budget={AUTO!r} both choose the budget; give one of them")
        if batch_size != 1:
            raise FocusDetrError(
                f"batch_size={batch_size}: with a deadline pictures are computed one at a time; leave it out"
            )
        self.accept_budget(1.0)
        few = getattr(self.model, "few_budgets", False)
        return DeadlineKeeper(
            Costs.of_model(self, layers), seconds, None if most is None else most.share, few
        )

    def _start(
        self, keeper: DeadlineKeeper, images: Sequence[Image.Image], decoder_layers: int | None
    ) -> None:
        """Look whether a deadline can be met, by a first picture computed twice: once to warm up."""
        for _ in range(2):
            begun = keeper.costs.clock()
            pixel_values, pixel_mask = self._prepared(images)
            spent = keeper.costs.clock() - begun
        keeper.start((pixel_values.shape[2], pixel_values.shape[3]), spent)
        if keeper.most is None:
            outputs = self.run_prepared(pixel_values, pixel_mask, decoder_layers=decoder_layers)
            keeper.most = usual_budget(self.model, outputs)
        self.run_prepared(pixel_values, pixel_mask, budget=SMALLEST, decoder_layers=decoder_layers)

    def forward_pass(self, height: int, width: int, budget: float, decoder_layers: int | None = None) -> None:
        """One pass of the model over a picture of nothing, all of it done on return; for clocks."""
        import torch

        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(1, 3, height, width, generator=generator)
        mask = torch.ones(1, height, width, dtype=torch.long)
        self.run_prepared(pixels, mask, budget=budget, decoder_layers=decoder_layers)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def run(
        self,
        images: Sequence[Image.Image],
        budget: BudgetLike = None,
        with_samples: bool = False,
        ranking: Ranking | None = None,
        decoder_layers: int | None = None,
    ) -> Any:
        """The model's own output for a batch: `logits`, `pred_boxes`; of our models, the token plan too, and
        where the decoder looked (`with_samples`). ``ranking`` is the model's own argument."""
        return self.run_prepared(
            *self._prepared(images),
            budget=budget,
            decoder_layers=decoder_layers,
            with_samples=with_samples,
            ranking=ranking,
        )

    def prepare(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """A batch as `run_prepared` takes it: pixel_values (B,3,H,W), pixel_mask (B,H,W)."""
        batch = self.processor(images=list(images), return_tensors="pt")
        return batch["pixel_values"], batch["pixel_mask"]

    def _prepared(self, images: Sequence[Image.Image]) -> tuple[Any, Any]:
        """As `prepare`, or arrays, of which nothing needs torch, where the model takes such."""
        if not getattr(self.model, "takes_arrays", False):
            return self.prepare(images)
        batch = self.processor(images=list(images), return_tensors="np")
        return batch["pixel_values"], batch["pixel_mask"]

    def run_prepared(
        self,
        pixel_values: Any,
        pixel_mask: Any,
        *,
        budget: BudgetLike = None,
        decoder_layers: int | None = None,
        with_samples: bool = False,
        ranking: Ranking | None = None,
    ) -> Any:
        """As `run`, for images that are prepared already, in another thread for one: tensors, or arrays where
        the model takes such, whose answers are arrays."""
        accepted = self.accept_budget(budget)
        # Models that are not ours need not know of budgets, nor of decoder layers.
        said: dict[str, Any] = {} if accepted is None else {"budget": accepted}
        layers = self.accept_decoder_layers(decoder_layers)
        if layers is not None:
            said["decoder_layers"] = layers
        with explained_memory(pixel_values.shape):
            if not is_module(self.model):
                return RawOutput(*cast(Any, self.model).infer(pixel_values, pixel_mask, **said))
            import torch

            pixel_values = pixel_values.to(self.device, self.dtype)
            if with_samples:
                said["with_samples"] = True
            if ranking is not None:
                said["ranking"] = ranking
            with torch.inference_mode():
                called = cast(Any, self.model)
                return called(pixel_values=pixel_values, pixel_mask=pixel_mask.to(self.device), **said)

    def set_budget(self, budget: BudgetLike) -> None:
        """The budget of calls that say none; None is what the model is configured for.

        Raises:
            FocusDetrError: it is no budget, or this model takes none.
        """
        accepted = None if budget is None else self.accept_budget(budget)
        if hasattr(self.model, "set_budget"):
            cast(Any, self.model).set_budget(accepted)

    def accept_budget(self, budget: BudgetLike) -> Budget | AutoBudget | None:
        """A call's budget, or else that of the `setting`, if this model takes one; None stays None.

        Raises:
            FocusDetrError: it is no budget, or this model takes none.
        """
        budget = self.setting.budget if budget is None else budget
        if budget is None:
            return None
        if budget != AUTO and not isinstance(budget, AutoBudget):
            budget = Budget.of(budget)
        accept = getattr(getattr(self.model, "encoder", None), "accept", None)
        accept = accept or getattr(self.model, "accept_budget", None)
        if accept is None:
            raise FocusDetrError(
                f"budget={getattr(budget, 'share', budget)}: this model works on what it was made for; a "
                "budget needs a model of ours"
            )
        return accept(budget)

    def set_decoder_layers(self, layers: int | None) -> None:
        """How many decoder layers calls run that say none; None is all.

        Raises:
            FocusDetrError: it is no such number, or this model runs all it has.
        """
        accepted = None if layers is None else self.accept_decoder_layers(layers)
        if hasattr(self.model, "set_decoder_layers"):
            cast(Any, self.model).set_decoder_layers(accepted)

    def accept_decoder_layers(self, layers: int | None) -> int | None:
        """How many decoder layers a call runs, or else the `setting`, if this model takes that; None is all.

        Raises:
            FocusDetrError: it is no such number, or this model runs all it has.
        """
        layers = self.setting.decoder_layers if layers is None else layers
        if layers is None:
            return None
        accept = getattr(self.model, "accept_decoder_layers", None)
        if accept is None:
            raise FocusDetrError(
                f"decoder_layers={layers!r}: this model runs all the layers that it was made with; export it "
                "anew with --decoder-layers, or use the model itself"
            )
        return accept(layers)

    def threshold_by_label(self, threshold: Threshold | None) -> Threshold:
        """One score for all classes, or one for each of them, the model's own where none is given."""
        if threshold is None and not self.class_thresholds:
            return self.threshold
        if threshold is not None and not isinstance(threshold, Mapping):
            return checked_threshold(threshold)
        scores: dict[str | int, float] = {name: score for name, score in self.class_thresholds.items()}
        scores.update(threshold or {})
        return dict(enumerate(lowest_scores(scores, self.class_names, self.threshold).tolist()))

    def decode(
        self,
        outputs: Any,
        images: Sequence[Image.Image],
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        paths: Sequence[str] | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Detections]:
        """Detections of what `run` gave for the same images.

        `sizes`: (height, width) of the pictures that the images were made smaller from, whose pixels boxes
        are then given in; by default their own.
        """
        sizes = [(image.height, image.width) for image in images] if sizes is None else list(sizes)
        lowest = self.threshold_by_label(threshold)
        by_class = lowest if isinstance(lowest, Mapping) else None
        found = self.processor.post_process_object_detection(
            outputs,
            threshold=min(lowest.values()) if isinstance(lowest, Mapping) else lowest,
            target_sizes=sizes,
            top_k=self.max_detections,
        )
        detections = [
            Detections.of_found(
                objects, self.class_names, size, f"image[{index}]" if paths is None else paths[index]
            )
            for index, (objects, size) in enumerate(zip(found, sizes, strict=True))
        ]
        chosen = getattr(getattr(outputs, "plan", None), "budgets", None)
        if chosen is not None:
            detections = [replace(each, budget=b) for each, b in zip(detections, chosen, strict=True)]
        kept = [each.filter(by_class, classes) for each in detections]
        pixel_masks = PixelMasks.of(outputs)
        if pixel_masks is None:
            return kept
        return [each.with_masks(pixel_masks, index) for index, each in enumerate(kept)]


def checked_device(device: str | torch.device | None) -> torch.device:
    """The device, which there is here; a GPU, or else the CPU, where None is asked for."""
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen).tolist()  # "meta" makes tensors, and none that can be read
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise FocusDetrError(f"device={str(device)!r}: cannot be used here ({error}); try 'cpu'") from error
    return chosen
