"""What a run leaves behind, when it stops, and what it says when it cannot go on."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from focus_detr.training import Recipe, train
from focus_detr.training.distributed_model import wants_channels_last
from helpers import tiny_training
from helpers.tiny_training import RECIPE, TinyDetector, losses, small_focus_detr, tiny_detector, write_dataset

QUICK = {**RECIPE, "epochs": 1, "checkpoint_steps": None}


def run(data, output, model=None, **options):
    options.setdefault("recipe", QUICK)
    return train(data, model=model or tiny_detector(), output=output, device="cpu", **options)


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory):
    return run(tiny_data, tmp_path_factory.mktemp("finished") / "run", overrides={"epochs": 2})


def test_output_folder(finished, tiny_data):
    names = {path.name for path in finished.output.iterdir()} - {"tensorboard"}
    assert names == {
        "best", "last", "checkpoints", "recipe.yaml", "run.yaml", "metrics.csv", "curves.png", "samples.jpg",
    }  # fmt: skip
    for folder in (finished.best, finished.last):
        model = TinyDetector.from_pretrained(folder)
        assert model.config.id2label == {0: "cat", 1: "dog"}
        assert Recipe.from_dict(model.config.training_recipe).seed == 0
        assert (folder / "model.safetensors").is_file()
        processor = FocusDetrImageProcessor.from_pretrained(folder)
        assert dict(processor.size) == {"shortest_edge": 32, "longest_edge": 32}
    assert Recipe.from_dict(yaml.safe_load((finished.output / "recipe.yaml").read_text())).epochs == 2
    for picture in ("curves.png", "samples.jpg"):
        assert Image.open(finished.output / picture).convert("RGB").getcolors(1_000_000) != 1


def test_metrics_table(finished):
    with (finished.output / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "3", "4", "5", "6", "6"]
    for row in rows:
        if row["loss"]:
            parts = [float(row[name]) for name in ("loss_class", "loss_bbox", "loss_dn")]
            assert float(row["loss"]) == pytest.approx(sum(parts), rel=1e-5)
        else:
            assert 0 <= float(row["eval_AP"]) <= 1
    best = max(float(row["eval_AP"]) for row in rows if row["eval_AP"])
    assert finished.metrics["AP"] == best and finished.steps == 6 and finished.model == finished.best


def test_kept_weights_are_the_averaged_ones(finished):
    from safetensors.torch import load_file

    checkpoint = finished.output / "checkpoints" / "checkpoint-6"
    averaged = torch.load(checkpoint / "ema.pt", weights_only=True)
    last, raw = load_file(finished.last / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    assert torch.equal(last["box_head.weight"], averaged["module.box_head.weight"])
    assert not torch.equal(last["box_head.weight"], raw["box_head.weight"])


def test_without_evaluation(tiny_data, tmp_path):
    result = run(tiny_data, tmp_path / "run", overrides={"eval_split": None, "ema_decay": 0.0})
    assert (result.best, result.metrics, result.model) == (None, {}, tmp_path / "run" / "last")


def test_evaluation_every_few_epochs_and_at_the_end(tiny_data, tmp_path):
    seen = []

    def evaluator(model):
        assert not model.training
        seen.append(len(seen))
        return {"AP": 0.5}

    run(tiny_data, tmp_path / "run", evaluator=evaluator, overrides={"epochs": 5, "eval_interval": 2})
    assert len(seen) == 3  # epochs 2, 4 and the last


def test_best_model_and_early_stopping(tiny_data, tmp_path):
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.1])
    weights = []

    def evaluator(model):
        weights.append(model.box_head.weight.clone())
        return {"AP": next(scores)}

    result = run(tiny_data, tmp_path / "run", evaluator=evaluator, overrides={"epochs": 9, "patience": 2})
    assert result.steps == 4 * 3 and result.metrics["AP"] == 0.3
    assert torch.equal(TinyDetector.from_pretrained(result.best).box_head.weight, weights[1])
    assert torch.equal(TinyDetector.from_pretrained(result.last).box_head.weight, weights[3])


def test_accumulation_divides_the_memory_not_the_batch(tiny_data, tmp_path):
    still = tiny_detector(noise=0.0)
    overrides = {"epochs": 1, "learning_rate": 1e-9, "batch_size": 10}
    run(tiny_data, tmp_path / "one", still, overrides=overrides)
    run(tiny_data, tmp_path / "two", tiny_detector(0.0), overrides={**overrides, "gradient_accumulation": 2})
    one, two = (list(losses(tmp_path / name).values()) for name in ("one", "two"))
    assert len(one) == len(two) == 1
    assert [float(value) for value in two[0].split()] == pytest.approx(
        [float(value) for value in one[0].split()], rel=1e-5
    )


@pytest.mark.parametrize(
    "overrides",
    [
        {"precision": "bf16"},
        {"channels_last": True},
        {"gradient_checkpointing": True},
    ],
)
def test_focus_detr_trains_with(overrides, tiny_data, tmp_path):
    numbers = []
    for name, each in (("plain", {}), ("other", overrides)):
        # Over 32 pixels: torch's bfloat16 convolution on CPUs gives NaN for weights of a map of one cell.
        size = {"shortest_edge": 64, "longest_edge": 64}
        settings = {"max_steps": 2, "eval_split": None, **size, **each}
        run(tiny_data, tmp_path / name, small_focus_detr(2), overrides=settings)
        numbers.append([float(row.split()[0]) for row in losses(tmp_path / name).values()])
    tolerance = 0.1 if "precision" in overrides else 1e-3
    assert numbers[1] == pytest.approx(numbers[0], rel=tolerance)


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [("cpu", "fp32", True), ("cuda", "fp32", False), ("cuda", "bf16", True), ("cuda", "fp16", True)],
)
def test_channels_come_last_where_that_is_not_slow(device, precision, expected):
    on, off = (Recipe(channels_last=each, precision=precision) for each in (True, False))
    assert wants_channels_last(on, torch.device(device)) == expected
    assert not wants_channels_last(off, torch.device(device))


def test_fine_tuning_reports_what_was_kept(tiny_data, tmp_path, monkeypatch):
    source = small_focus_detr(classes=["dog", "bird"])
    source.save_pretrained(tmp_path / "trained")
    FocusDetrImageProcessor(image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path / "trained")
    fields = {"num_detections": 5, "class_thresholds": {"cat": 0.2}}
    recipe = {**QUICK, "max_steps": 1, "epochs": None, "model": fields}
    result = train(
        tiny_data, model=tmp_path / "trained", recipe=recipe, output=tmp_path / "run", device="cpu"
    )
    assert result.report.kept_classes == ["dog"] and result.report.new_classes == ["cat"]
    assert "classes kept: dog; new: cat; dropped: bird" in (result.output / "finetuning.txt").read_text()
    assert Predictor.from_pretrained(result.model).class_thresholds == {"cat": 0.2}
    processor = FocusDetrImageProcessor.from_pretrained(result.last)
    assert processor.image_mean == [0.1, 0.2, 0.3] and dict(processor.size)["shortest_edge"] == 32


def test_not_finite_loss_names_the_images(tiny_data, tmp_path, monkeypatch):
    forward = TinyDetector.forward

    def poisoned(self, pixel_values, pixel_mask, labels=None):
        output = forward(self, pixel_values, pixel_mask, labels)
        if labels and any(int(label["image_id"]) == 7 for label in labels):
            output.loss_dict["loss_bbox"] = output.loss_dict["loss_bbox"] * float("inf")
            output.loss = sum(output.loss_dict.values())
        return output

    monkeypatch.setattr(TinyDetector, "forward", poisoned)
    with pytest.raises(FocusDetrError) as caught:
        run(tiny_data, tmp_path / "run")
    message = str(caught.value)
    assert (
        "the loss is not finite at step" in message
        and "loss_bbox=inf" in message
        and "loss_class=0." in message
    )
    assert f"7 ({tiny_data / 'train' / '7.png'})" in message
    saved = [path for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert len(saved) == 1 and str(saved[0]) in message
    assert all(value.isfinite().all() for value in TinyDetector.from_pretrained(saved[0]).parameters())


def test_not_finite_gradient_stops_before_the_step(tiny_data, tmp_path, monkeypatch):
    model = tiny_detector()
    model.box_head.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FocusDetrError, match="the gradient is not finite at step 0; images: .*png"):
        run(tiny_data, tmp_path / "run", model)


def test_out_of_memory_says_what_to_lower(tiny_data, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(TinyDetector, "forward", full)
    with pytest.raises(FocusDetrError) as caught:
        run(tiny_data, tmp_path / "run")
    for words in ("batch_size below 4", "gradient_checkpointing", "precision: bf16", "shortest_edge"):
        assert words in str(caught.value)


def test_unusable_requests(tiny_data, tmp_path):
    with pytest.raises(FocusDetrError, match="device='gpu'"):
        train(tiny_data, model=tiny_detector(), recipe=QUICK, output=tmp_path / "a", device="gpu")
    with pytest.raises(
        FocusDetrError, match=r"the model detects \['a', 'b'\], the data set has \['cat', 'dog'\]"
    ):
        run(tiny_data, tmp_path / "b", tiny_detector(classes=["a", "b"]))
    with pytest.raises(FocusDetrError, match="transforms='mosaik': no such recipe"):
        run(tiny_data, tmp_path / "c", overrides={"augmentation": "mosaik"})
    with pytest.raises(FocusDetrError, match="gradient_checkpointing=True: TinyDetector does not support it"):
        run(tiny_data, tmp_path / "d", overrides={"gradient_checkpointing": True})
    if not torch.cuda.is_available():
        with pytest.raises(FocusDetrError, match="device='cuda': this machine trains on"):
            train(tiny_data, model=tiny_detector(), recipe=QUICK, output=tmp_path / "e", device="cuda")


def test_a_split_that_is_not_there_is_said_with_its_fix(tiny_data, tmp_path):
    with pytest.raises(FocusDetrError, match=r"'trian' does not exist.*--set train_split=train"):
        run(tiny_data, tmp_path / "a", overrides={"train_split": "trian"})
    with pytest.raises(FocusDetrError, match=r"'test' does not exist.*--set eval_split=null.*--eval-data"):
        run(tiny_data, tmp_path / "b", overrides={"eval_split": "test"})


def test_steps_are_told_on_stderr(tiny_data, tmp_path, capsys):
    run(tiny_data, tmp_path / "run", overrides={"max_steps": 1})
    output = capsys.readouterr()
    assert output.out == "" and "step 1/1" in output.err


def test_training_data_without_objects_are_refused(tmp_path):
    data = write_dataset(tmp_path / "data", images=4)
    file = data / "train" / "_annotations.coco.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    with pytest.raises(FocusDetrError, match="no image of 'train' has an object"):
        run(data, tmp_path / "run")


def test_images_without_objects_can_be_left_out(tiny_data, tmp_path):
    run(tiny_data, tmp_path / "run", overrides={"skip_empty": True, "batch_size": 2, "eval_split": None})
    assert len(losses(tmp_path / "run")) == 3  # 6 of the 10 images have objects


def test_evaluation_data_without_objects_is_refused(tmp_path):
    data = write_dataset(tmp_path / "data", images=4)
    file = data / "val" / "_annotations.coco.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    with pytest.raises(FocusDetrError, match="no object of the training classes to evaluate on"):
        run(data, tmp_path / "run")


@pytest.mark.slow
def test_a_local_folder_named_datasets_does_not_matter(tiny_data, tmp_path):
    (tmp_path / "datasets" / "mine").mkdir(parents=True)
    helper = Path(tiny_training.__file__)
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"from helpers.tiny_training import main; main({str(tiny_data)!r}, 'run', '{{}}')",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{helper.parents[1]}"},
        check=True,
    )
    assert (tmp_path / "run" / "last").is_dir()


def test_what_a_run_changes_of_its_process_it_puts_back(tiny_data, tmp_path):
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    threads, expected = torch.get_num_threads(), (torch.rand(1).item(), random.random(), np.random.rand())
    model = tiny_detector()
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    run(tiny_data, tmp_path / "run", model, overrides={"max_steps": 1, "threads": threads + 1})
    assert torch.get_num_threads() == threads
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected


def test_precisions_follow_one_another_in_a_process(tiny_data, tmp_path):
    seen = []
    for precision in ("bf16", "fp32"):
        model = tiny_detector()
        model.box_head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        overrides = {"max_steps": 1, "precision": precision, "eval_split": None}
        run(tiny_data, tmp_path / precision, model, overrides=overrides)
    assert seen == [torch.bfloat16, torch.float32]


def test_fp16_is_refused_on_a_cpu_and_leaves_nothing(tiny_data, tmp_path):
    with pytest.raises(FocusDetrError, match="precision='fp16': needs a GPU"):
        run(tiny_data, tmp_path / "run", overrides={"precision": "fp16"})
    assert not (tmp_path / "run").exists()


def test_paths_may_begin_at_home(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(tiny_data)
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({**QUICK, "eval_split": None, "max_steps": 1, "epochs": None})
    )
    result = run("~/data", "~/run", recipe="~/mine.yaml", eval_data=None)
    assert result.last == tmp_path / "run" / "last" and result.last.is_dir()


def test_a_run_without_a_named_folder_resumes_where_it_is(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = {**QUICK, "name": "mine", "eval_split": None}
    assert train(tiny_data, model=tiny_detector(), recipe=recipe, device="cpu").output == Path("runs/mine")
    again = train(tiny_data, model=tiny_detector(), recipe=recipe, device="cpu", resume=True)
    assert again.output == Path("runs/mine") and again.steps == 3
