"""benchmark(): measure models alike."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from focus_detr.benchmarking.candidates import (
    USUAL_PICTURE,
    Candidate,
    Request,
    load_candidate,
    prepare,
    selects_tokens,
    takes_budget,
)
from focus_detr.benchmarking.environment import describe_environment, limited_threads
from focus_detr.benchmarking.macs import Cost, count_macs
from focus_detr.benchmarking.memory import PeakMemory, peak_memory
from focus_detr.benchmarking.report import BenchmarkReport, Row, rounded
from focus_detr.benchmarking.timing import take_turns
from focus_detr.errors import FocusDetrError
from focus_detr.inference.costs import Costs, seconds_of
from focus_detr.inference.deadline import check_deadline, usual_budget

if TYPE_CHECKING:
    from PIL import Image

    from focus_detr.data import DetectionDataset

logger = logging.getLogger(__name__)

Size = tuple[int, int]  # height, width


def benchmark(
    models: Sequence[str],
    *,
    sizes: Sequence[Size] = (),
    batch_size: int = 1,
    keep_ratios: Sequence[float] = (),
    budgets: Sequence[float] = (),
    decoder_layers: Sequence[int] = (),
    deadline: float | str | None = None,
    threads: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    warmup: int = 2,
    runs: int = 10,
    pause: float = 0.0,
    memory: bool = True,
    data: str | os.PathLike[str] | None = None,
    split: str = "test",
    limit: int | None = None,
    progress: bool = False,
    trust_plugins: bool = False,
) -> BenchmarkReport:
    """Time, memory, operations and, given data, AP of models; their runs take turns.

    Args:
        models: see `Request`.
        sizes: height and width of the images; by default what each model's image processor makes of the first
            image of the data, or of a 640x480 picture.
        keep_ratios: in place of the models' own, one row each; models that select no tokens have one row.
        budgets: mean shares of tokens that an encoder layer works on, likewise; not beside keep ratios.
        decoder_layers: so many of the models' decoder layers are run, one row each, with each budget;
            exported files have one row.
        deadline: seconds, or as in ``"50ms"``, for a forward pass of one image: models that take a budget
            have the largest that meets it, at most the one of ``budgets``, or else their usual one.
        threads: of torch, and cores of everything else; as it is when not given.
        dtype: of the weights; of a ``deployed:`` model, of its matrix products.
        warmup, runs, pause: see `take_turns`.
        memory: measure it, in one fresh process a row.
        data: labelled images to measure AP on; ``limit`` takes the first of its ``split``.
        trust_plugins: import the modules that the models name, which runs their code.

    Raises:
        FocusDetrError: a model, size or option that cannot be used.
    """
    if not models:
        raise FocusDetrError("benchmark: names no model; give a bundled name, a folder, a preset or a file")
    if batch_size < 1:
        raise FocusDetrError(f"batch_size={batch_size}: must be at least 1")
    for height, width in sizes:
        if min(height, width) < 32:
            raise FocusDetrError(f"size {height}x{width}: sides must be 32 pixels or more")
    with limited_threads(threads):
        asked = Request("", None, device, dtype, trust_plugins)
        most = None
        if deadline is not None:
            most, budgets = _most(keep_ratios, budgets, batch_size), ()
        candidates = _candidates(models, keep_ratios, budgets, decoder_layers, asked)
        pictures = [_pictures(candidate, data, split, limit) for candidate in candidates]
        cases = [
            (candidate, size, dataset)
            for candidate, (dataset, picture) in zip(candidates, pictures, strict=True)
            for size in (sizes or [_usual_size(candidate, picture)])
        ]
        if deadline is not None:
            seconds = seconds_of(deadline)
            cases = [(_in_time(each, size, seconds, most), size, dataset) for each, size, dataset in cases]
            if not any(takes_budget(candidate) for candidate, _, _ in cases):
                raise FocusDetrError(
                    f"deadline={deadline!r}: no model here takes a budget ({', '.join(models)}); leave it out"
                )
        timings = take_turns(
            {
                str(place): _explained(candidate, size, batch_size)
                for place, (candidate, size, _) in enumerate(cases)
            },
            runs,
            warmup=warmup,
            pause=pause,
            finish=candidates[0].finish,
        )
        first = timings["0"].median
        rows = []
        for place, (candidate, size, dataset) in enumerate(cases):
            taken = timings[str(place)]
            row = Row(
                model=candidate.request.name,
                keep_ratio=candidate.request.keep_ratio or getattr(candidate.config, "keep_ratio", None)
                if selects_tokens(candidate.config)
                else None,
                budget=candidate.request.budget or _set_budget(candidate),
                decoder_layers=_layers(candidate),
                size=f"{size[0]}x{size[1]}",
                batch_size=batch_size,
                median_ms=1e3 * taken.median,
                p95_ms=1e3 * taken.p95,
                best_ms=1e3 * taken.best,
                cpu_ms=1e3 * taken.cpu_median,
                images_per_second=batch_size / taken.median,
                times_faster=first / taken.median,
                **_memory(
                    peak_memory(prepare, candidate.request, size, batch_size, threads) if memory else None
                ),
                **_cost(count_macs(candidate.config, *size) if candidate.config is not None else None),
                **_accuracy(candidate, dataset, size if sizes else None, batch_size, progress),
            )
            rows.append(rounded(row))
        return BenchmarkReport(rows, describe_environment(str(candidates[0].predictor.device)))


def _candidates(
    models: Sequence[str],
    keep_ratios: Sequence[float],
    budgets: Sequence[float],
    decoder_layers: Sequence[int],
    asked: Request,
) -> list[Candidate]:
    if keep_ratios and budgets:
        raise FocusDetrError("keep ratios and budgets both say how many tokens are kept; give one of them")
    field, values = ("budget", budgets) if budgets else ("keep_ratio", keep_ratios)
    heeds = takes_budget if budgets else _selects_tokens
    candidates: list[Candidate] = []
    for name in models:
        first = load_candidate(replace(asked, name=name))
        shares: list[dict[str, Any]] = [{field: value} for value in values if heeds(first)] or [{}]
        depths: list[dict[str, Any]] = [
            {"decoder_layers": count} for count in decoder_layers if first.config is not None
        ] or [{}]
        changes = [{**share, **depth} for share in shares for depth in depths]
        candidates += [
            load_candidate(replace(asked, name=name, **each)) if each else first for each in changes
        ]
    if values and not any(heeds(candidate) for candidate in candidates):
        what = "budgets" if budgets else "keep ratios"
        raise FocusDetrError(
            f"{what} {', '.join(map(str, values))}: no model here selects tokens by one "
            f"({', '.join(models)}); leave them out"
        )
    if decoder_layers and all(candidate.config is None for candidate in candidates):
        raise FocusDetrError(
            f"decoder_layers {', '.join(map(str, decoder_layers))}: exported files run those that they were "
            f"written with ({', '.join(models)}); leave them out"
        )
    return candidates


def _selects_tokens(candidate: Candidate) -> bool:
    return selects_tokens(candidate.config)


def _layers(candidate: Candidate) -> int | None:
    """Decoder layers that are run, where that is another number than the model has."""
    return getattr(candidate.config, "used_decoder_layers", None)


def _set_budget(candidate: Candidate) -> float | None:
    budget = getattr(candidate.config, "budget", None)
    return None if isinstance(budget, str) else budget


def _most(keep_ratios: Sequence[float], budgets: Sequence[float], batch_size: int) -> float | None:
    """The largest budget that a deadline may lead to; None for that of each model."""
    if keep_ratios or len(budgets) > 1 or batch_size != 1:
        raise FocusDetrError(
            "deadline: goes with at most one budget, no keep ratio, and batches of 1; leave the others out"
        )
    return budgets[0] if budgets else None


def _in_time(candidate: Candidate, size: Size, seconds: float, most: float | None) -> Candidate:
    """The candidate with the largest budget that meets a deadline; as it is where it takes none."""
    if not takes_budget(candidate):
        return candidate
    curve = Costs.of_model(candidate.predictor).of(size)
    try:
        check_deadline(curve, seconds, size)
    except FocusDetrError as error:
        raise FocusDetrError(f"{candidate.request.name}: {error}") from error
    if most is None:
        model: Any = candidate.predictor.model
        exported = candidate.config is None
        most = model.usual_budget if exported else usual_budget(model, candidate.work(size, 1)())
    share = curve.largest_within(seconds)
    assert share is not None
    return load_candidate(replace(candidate.request, budget=min(most, share)))


def _pictures(
    candidate: Candidate, data: str | os.PathLike[str] | None, split: str, limit: int | None
) -> tuple[DetectionDataset | None, Image.Image]:
    """The images to measure AP on, and a typical picture."""
    from PIL import Image

    if data is None:
        if limit is not None:
            raise FocusDetrError(f"limit={limit}: limits the images of data, and none is given")
        return None, Image.new("RGB", USUAL_PICTURE)
    if not candidate.trained:
        raise FocusDetrError(
            f"{candidate.request.name}: has random weights, and so no AP; leave out the data"
        )
    if limit is not None and limit < 1:
        raise FocusDetrError(f"limit={limit}: must be at least 1")
    from focus_detr.data import DetectionDataset, load_dataset

    found = load_dataset(os.fspath(data), split, classes=list(candidate.predictor.class_names))
    chosen = DetectionDataset(
        found.records[:limit],
        found.class_names,
        found.category_ids,
        name=found.name,
        split=found.split,
        format=found.format,
    )
    return chosen, chosen[0].image


def _usual_size(candidate: Candidate, picture: Image.Image) -> Size:
    height, width = candidate.predictor.processor(images=[picture])["pixel_values"].shape[2:]
    return height, width


def _explained(candidate: Candidate, size: Size, batch: int) -> Any:
    """The candidate's work, whose errors name the model."""
    work = candidate.work(size, batch)

    def run() -> None:
        try:
            work()
        except FocusDetrError as error:
            raise FocusDetrError(f"{candidate.request.name}: {error}") from error

    return run


def _memory(measured: PeakMemory | None) -> dict[str, Any]:
    if measured is None:
        return {}
    return {
        "memory_mib": measured.growth,
        "peak_mib": measured.peak,
        "device_memory_mib": measured.device,
    }


def _cost(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {}
    return {
        "gmacs": cost.total / 1e9,
        **{f"{name}_gmacs": macs / 1e9 for name, macs in cost.parts().items()},
        "parameters_m": cost.parameters / 1e6,
        "tokens": cost.tokens,
        "kept": cost.kept_share,
    }


def _accuracy(
    candidate: Candidate, dataset: DetectionDataset | None, size: Size | None, batch_size: int, progress: bool
) -> dict[str, Any]:
    if dataset is None:
        return {}
    from focus_detr.evaluation import evaluate

    if size is not None and candidate.config is not None:
        candidate.predictor.processor.size = {"height": size[0], "width": size[1]}
    metrics = evaluate(candidate.predictor, dataset, batch_size=batch_size, progress=progress).metrics.summary
    return {"AP": metrics["AP"], "AP50": metrics["AP50"]}
