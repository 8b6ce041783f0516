"""`gradient_accumulation: auto`: memory says how many parts a batch is cut into, and nothing else changes."""

import logging

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from focus_detr.data import load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.training import load_recipe, memory_meter, micro_batches, train
from focus_detr.training.assembly import Assembly
from focus_detr.training.micro_batches import fit_to_memory
from focus_detr.training.processes import join_processes
from focus_detr.training.tasks import TASKS, DetectionTask
from helpers.tiny_training import RECIPE, TinyDetector, finish, losses, start_two, tiny_detector

QUICK = {**RECIPE, "epochs": 1, "checkpoint_steps": None, "batch_size": 8, "eval_split": None}
AUTO = {"gradient_accumulation": "auto"}


def run(data, output, model=None, **options):
    options.setdefault("overrides", AUTO)
    model = model or tiny_detector()
    return train(
        data, model=model, recipe=options.pop("recipe", QUICK), output=output, device="cpu", **options
    )


def found(output):
    return load_recipe(output / "recipe.yaml").gradient_accumulation


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """To collect garbage takes long."""
    monkeypatch.setattr(Accelerator, "free_memory", lambda self: None)


@pytest.fixture
def hold(monkeypatch):
    """Memory that holds so many images at once."""
    forward, seen = TinyDetector.forward, []

    def to(most):
        def limited(self, pixel_values, *arguments, **named):
            seen.append(len(pixel_values))
            if len(pixel_values) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return forward(self, pixel_values, *arguments, **named)

        monkeypatch.setattr(TinyDetector, "forward", limited)
        return seen

    return to


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many bytes, of which a process takes some and each image of a step some."""

    def of(size, process, image):
        forward, held = TinyDetector.forward, [process]

        def noted(self, pixel_values, *arguments, **named):
            held[0] = process + image * len(pixel_values)
            output = forward(self, pixel_values, *arguments, **named)
            most.append(len(pixel_values))
            return output

        most = []
        monkeypatch.setattr(TinyDetector, "forward", noted)
        monkeypatch.setattr(memory_meter, "_resident", lambda: held[0])
        monkeypatch.setattr(memory_meter, "free_memory", lambda: size - held[0])
        return most

    return of


@pytest.fixture
def fit(tiny_data, tmp_path):
    """Number of micro-batches that is found, nothing trained."""
    dataset = load_dataset(tiny_data, "train")

    def to(**fields):
        recipe = load_recipe({**QUICK, **AUTO, **fields})
        assembly = Assembly(join_processes(True), dataset, None, None, None, False)
        return fit_to_memory(assembly, tiny_detector(), recipe, tmp_path / "run").gradient_accumulation

    return to


@pytest.mark.parametrize(("most", "number"), [(8, 1), (7, 2), (3, 4), (1, 8)])
def test_the_fewest_micro_batches_that_memory_holds(fit, hold, most, number):
    hold(most)
    assert fit() == number


def test_a_batch_is_cut_evenly(fit, hold):
    hold(4)
    assert fit(batch_size=9) == 3


@pytest.mark.slow
def test_the_run_is_that_of_the_number_given_by_hand(tiny_data, tmp_path, hold, caplog):
    hold(4)
    recipe = {**QUICK, "eval_split": "val"}
    model = tiny_detector()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    taken = []
    with caplog.at_level(logging.INFO, "focus_detr"), pytest.MonkeyPatch.context() as patch:
        take = micro_batches._take_step
        patch.setattr(micro_batches, "_take_step", lambda *given: (take(*given), taken.append(given[0])))
        auto = run(tiny_data, tmp_path / "auto", model, recipe=recipe)
    assert "batch of 8 in 2 micro-batches of 4: " in caplog.text and " GiB" in caplog.text
    # It was training that took place: in copies.
    assert any(not torch.equal(w, taken[0].model.trained.state_dict()[n]) for n, w in before.items())
    by_hand = run(tiny_data, tmp_path / "hand", recipe=recipe, overrides={"gradient_accumulation": 2})
    assert losses(auto.output) == losses(by_hand.output) and auto.metrics == by_hand.metrics
    for name in ("model.safetensors", "config.json"):
        assert (auto.last / name).read_bytes() == (by_hand.last / name).read_bytes()
    for name in ("optimizer.pt", "ema.pt"):
        states = [
            torch.load(each.output / "checkpoints" / "checkpoint-2" / name, weights_only=True)
            for each in (auto, by_hand)
        ]
        assert str(states[0]) == str(states[1])
    names = [{path.name for path in each.output.iterdir()} for each in (auto, by_hand)]
    assert names[0] == names[1]


def test_a_run_resumes_with_the_number_it_found(tiny_data, tmp_path, hold):
    hold(4)
    whole = run(tiny_data, tmp_path / "whole", overrides={**AUTO, "epochs": 2})
    scores = []

    def interrupted(model):
        scores.append(0.5)
        if len(scores) == 1:
            raise KeyboardInterrupt
        return {"AP": 0.5}

    options = {"recipe": {**QUICK, "checkpoint_steps": 1}, "evaluator": interrupted}
    with pytest.raises(KeyboardInterrupt):
        run(tiny_data, tmp_path / "run", overrides={**AUTO, "epochs": 2}, **options)
    hold(8)  # more than there was
    resumed = run(
        tiny_data, tmp_path / "run", overrides=AUTO, resume=True, recipe=None, evaluator=interrupted
    )
    assert found(tmp_path / "run") == 2
    for name, weight in load_file(whole.last / "model.safetensors").items():
        assert torch.equal(weight, load_file(resumed.last / "model.safetensors")[name]), name


def test_a_machine_without_a_gpu_is_not_filled_to_see_what_it_holds(fit, machine):
    most = machine(size=1000, process=300, image=100)  # 850 are used: five images
    assert fit() == 2 and max(most) == 4


def test_one_image_that_leaves_little_room_is_tried_all_the_same(fit, machine):
    machine(size=1000, process=850, image=100)
    assert fit() == 8


def test_memory_that_holds_no_image_is_said_with_what_to_lower(fit, hold, tmp_path):
    hold(0)
    with pytest.raises(FocusDetrError, match="does not hold a step of one image") as refused:
        fit()
    for words in ("gradient_checkpointing", "precision: bf16", "shortest_edge"):
        assert words in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_other_errors_are_not_taken_for_memory(fit, monkeypatch):
    def broken(*arguments, **named):
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(TinyDetector, "forward", broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        fit()


def test_the_tasks_own_step_is_tried_on_the_largest_pictures(fit, monkeypatch):
    """With the most objects, and with the gradients of another micro-batch where there is one."""
    steps, forward = [], TinyDetector.forward

    def noted(self, pixel_values, pixel_mask, labels=None):
        steps.append((*pixel_values.shape, self.box_head.weight.grad is not None))
        assert [len(each["boxes"]) for each in labels] == [2] * len(pixel_values)
        return forward(self, pixel_values, pixel_mask, labels)

    class Twice(DetectionTask):
        def __call__(self, model, batch, step):
            return super().__call__(lambda **batch: (model(**batch), model(**batch))[1], batch, step)

    monkeypatch.setattr(TinyDetector, "forward", noted)
    monkeypatch.setitem(TASKS._classes, "detection", Twice)
    assert fit(batch_size=4, shortest_edge=64, longest_edge=96, augmentation="detr") == 1
    tried = [(1, False), (1, False), (1, True), (1, False), (1, False), (2, True), (1, False), (4, False)]
    assert [(images, held) for images, _, _, _, held in steps[::2]] == tried and steps[::2] == steps[1::2]
    [(height, width)] = {(height, width) for _, _, height, width, _ in steps}
    assert height == 64 and 80 < width <= 96  # crops make long pictures of square ones


def test_a_budget_of_time_is_fitted_to_the_number_that_was_found(tiny_data, tmp_path, hold, monkeypatch):
    hold(4)
    measured = []

    def fit_to_time(assembly, model, recipe, output, time):
        measured.append((recipe.gradient_accumulation, time))
        raise FocusDetrError("too short")

    monkeypatch.setattr("focus_detr.training.run.fit_to_time", fit_to_time)
    with pytest.raises(FocusDetrError, match="too short"):
        run(tiny_data, tmp_path / "run", time="20m")
    assert measured == [(2, "20m")]


@pytest.mark.parametrize(("most", "number"), [(800, 1), (799, 2), (250, 4), (100, 8)])
def test_a_gpu_is_tried_from_the_whole_batch_on_and_keeps_room(fit, monkeypatch, most, number):
    """Of its memory 85 % are used."""
    forward, tried, device = TinyDetector.forward, [], torch.device("cuda")

    class OfAGpu(memory_meter.MemoryMeter):
        def __init__(self, _):
            super().__init__(device)

    def noted(self, pixel_values, *arguments, **named):
        tried.append(len(pixel_values))
        return forward(self, pixel_values, *arguments, **named)

    free, reserved = most / 0.85 - 20, 20
    for name, value in {
        "empty_cache": lambda: None,
        "mem_get_info": lambda device: (free, 10_000),
        "memory_reserved": lambda device: reserved,
        "reset_peak_memory_stats": lambda device: tried.clear(),
        "max_memory_allocated": lambda device: 100 * max(tried),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(TinyDetector, "forward", noted)
    monkeypatch.setattr(micro_batches, "MemoryMeter", OfAGpu)
    assert fit() == number


def test_other_devices_are_refused():
    with pytest.raises(FocusDetrError, match="'auto': what memory 'mps' has is not known"):
        memory_meter.MemoryMeter(torch.device("mps"))


@pytest.mark.slow
def test_processes_agree_on_the_largest_of_their_numbers(tiny_data, tmp_path):
    """Memory runs out in one of them alone, and the other does not wait for it."""
    overrides = {**AUTO, "epochs": 1, "checkpoint_steps": None, "batch_size": 8}
    group = start_two(tiny_data, tmp_path / "two", noise=0.0, holds=[2, 4], overrides=overrides)
    finish(*group)
    assert found(tmp_path / "two") == 2
