"""The facade: a model by name, and what one does with it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.disk import explained_disk
from focus_detr.errors import FocusDetrError
from focus_detr.folders import from_home, whole_files

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.inference import Detections, Predictor
    from focus_detr.inference.choosing import Threshold
    from focus_detr.inference.sources.files import Sources
    from focus_detr.structures.classes import Classes

# Threads that ask a model at once wait for the first. Not a model's own, since models are pickled.
_loading = threading.RLock()


class FocusDetr:
    """A detector to predict with, evaluate, fine-tune and save.

        model = FocusDetr("blood-cells")
        for detections in model.predict("photos/"):
            print(detections.path, detections.counts())

    Args:
        name: a trained model (`list_models()`, a published name, a folder, a hub id), or a preset
            (`list_presets()`): a configuration without weights, which has to be trained before it predicts.
        device: "cpu", "cuda", "mps" ...; by default a GPU where there is one.
        deploy: predict and evaluate with a copy made for speed; see `focus_detr.deploy.deploy`.
        trust_plugins: import the modules that the model's configuration names, which runs their code.

    Raises:
        FocusDetrError: nothing of that name, or no such device here.
    """

    def __init__(
        self,
        name: str | Path,
        device: str | None = None,
        *,
        deploy: bool = False,
        trust_plugins: bool = False,
    ) -> None:
        from focus_detr.zoo.presets import is_preset
        from focus_detr.zoo.resolve import resolve_model

        if device is not None:
            from focus_detr.inference.predictor import checked_device

            checked_device(device)
        self.device, self.deploy, self.trust_plugins = device, deploy, trust_plugins
        self.preset = str(name) if is_preset(str(name)) else None
        self.folder = None if self.preset else resolve_model(name)
        self._predictor: Predictor | None = None

    @property
    def predictor(self) -> Predictor:
        """The model and its image processor, loaded on first use."""
        from focus_detr.inference import Predictor

        with _loading:
            if self._predictor is None:
                self._predictor = Predictor.from_pretrained(
                    str(self._trained()),
                    device=self.device,
                    deploy=self.deploy,
                    trust_plugins=self.trust_plugins,
                )
            return self._predictor

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes it knows, by label."""
        return self.predictor.class_names

    def predict(
        self,
        sources: Sources,
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        batch_size: int = 1,
        budget: float | None = None,
        decoder_layers: int | None = None,
        setting: str | None = None,
        tile: int | str | None = None,
        overlap: float | None = None,
        deadline: float | str | None = None,
        track: bool = False,
        detect_every: int = 1,
        steady: float = 0.0,
        keep_images: bool = False,
        **options: Any,
    ) -> list[Detections]:
        """The objects of each image, in order; images that cannot be read are left out, with a warning.

        Args:
            sources: files, videos, folders, patterns, URLs, PIL images or arrays, one or many. For videos,
                streams and thousands of images, `model.predictor.predict` gives results one by one.
            threshold: lowest score reported, 0..1, or scores by class, as in `{"person": 0.5}`; by default,
                and for the other classes, the model's own.
            classes: names or labels of those wanted, or what each of them is reported as, as in
                `{"car": "vehicle", "truck": "vehicle"}`; by default all.
            batch_size: images computed at once; changes speed, not results.
            budget: mean share of tokens that an encoder layer works on, in [0.05, 1]: less is faster, 1 is
                all; by default what the model is configured for. Models that select tokens take one.
            decoder_layers: run so many of the model's decoder layers: fewer are faster; by default what the
                model is set to, or all.
            setting: resolution, budget and decoder layers by the name of one of the model's settings
                (`calibrate --frontier`); "auto", with a deadline, is the most accurate one that meets it.
            tile: look at very large pictures in tiles of so many pixels a side, at several scales, or "auto"
                (see `focus_detr.inference.tiles`); `batch_size` is then that of tiles.
            overlap: share of a tile's side in common with the next, 0.2 when not given.
            deadline: time for one picture, seconds or as in "50ms": each gets the largest budget that meets
                it on this machine, and says it (`detections.budget`); at most ``budget``, or else what the
                model was trained for.
            track: number the objects of videos, the same from frame to frame (`detections.track_ids`).
            detect_every: frames of a tracked video from one that is detected to the next.
            steady: share of a token's rank that the scores of a video's frames before have.
            keep_images: keep each image with its detections, for drawing.
            options: of sources: `every` n-th frame of videos, or `fps` of them, and what one image may cost,
                `timeout`, `max_megabytes`, `max_pixels`, `private_redirects`.

        Raises:
            FocusDetrError: an option cannot be used, or there is no image at all.
        """
        from focus_detr.inference import Detections
        from focus_detr.inference.closest import at_setting

        stream = at_setting(self.predictor, setting, deadline).predict(
            sources,
            threshold=threshold,
            classes=classes,
            batch_size=batch_size,
            budget=budget,
            decoder_layers=decoder_layers,
            tile=tile,
            overlap=overlap,
            deadline=deadline,
            track=track,
            detect_every=detect_every,
            steady=steady,
            keep_images=keep_images,
            **options,
        )
        return [result for result in stream if isinstance(result, Detections)]

    def set_budget(self, budget: float | None) -> None:
        """The budget of calls that say none (see `predict`); None is what the model is configured for."""
        self.predictor.set_budget(budget)

    def set_decoder_layers(self, layers: int | None) -> None:
        """How many decoder layers calls run that say none (see `predict`); None is all."""
        self.predictor.set_decoder_layers(layers)

    def evaluate(self, data: str | Path | DetectionDataset, split: str = "test", **options: Any) -> Any:
        """Average precision and more on a labelled data set; see `focus_detr.evaluation.evaluate`."""
        from focus_detr.evaluation import evaluate

        return evaluate(self.predictor, data, split=split, device=self.device, **options)

    def explain(self, source: Any, output: str | Path | None = None, **options: Any) -> Any:
        """What it looks at in a picture, or which objects of a data set each budget keeps; see
        `focus_detr.explaining.run.explain`."""
        from focus_detr.explaining import explain

        return explain(self.predictor, source, output, **options)

    def train(self, data: str | Path | DetectionDataset, **options: Any) -> FocusDetr:
        """Train on a data set (fine-tune, where this is a trained model), and return the trained model.

        `options` as in `focus_detr.training.train`: output, recipe, overrides, resume ... This model itself
        stays as it is.
        """
        from focus_detr.training import train

        if self.trust_plugins:
            options = {"trust_plugins": True, **options}
        result = train(data, model=self.preset or str(self.folder), device=self.device, **options)
        return FocusDetr(
            result.model, device=self.device, deploy=self.deploy, trust_plugins=self.trust_plugins
        )

    def save(self, folder: str | Path) -> Path:
        """Write the model and its image processor to a folder that `FocusDetr(folder)` reads."""
        source, target = self._trained(), Path(from_home(folder))
        if source.is_file():
            raise FocusDetrError(
                f"{source}: an exported model is one file already; copy that, or save the one "
                "it was made from"
            )
        if self.deploy:
            from focus_detr.zoo.loading import load_model

            model: Any = load_model(source, "auto", trust_plugins=self.trust_plugins)  # the form that trains
        else:
            model = self.predictor.model
        with explained_disk(target, "folder"), whole_files(target) as writing:
            model.save_pretrained(writing)
            self.predictor.processor.save_pretrained(writing)
        return target

    def __getstate__(self) -> dict[str, Any]:
        # By its name: the process that it travels to reads the weights from their file, on its own device.
        folder = None if self.folder is None else self.folder.resolve()
        return {**self.__dict__, "folder": folder, "_predictor": None}

    def __repr__(self) -> str:
        return f"FocusDetr({self.preset or str(self.folder)!r})"

    def _trained(self) -> Path:
        if self.folder is None:
            raise FocusDetrError(
                f"{self.preset!r} is a configuration without trained weights: train it first, by "
                f"FocusDetr({self.preset!r}).train(data), or take a trained model (focus_detr.list_models())"
            )
        return self.folder
