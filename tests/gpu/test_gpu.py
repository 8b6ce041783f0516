"""What only a GPU can show. `make gpu` runs these on a machine that has one.

With GPU_DRY_RUN=1 they run on a CPU, but for the graphs: to see, without a GPU, that they would run.
"""

import copy
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from focus_detr import FocusDetr
from focus_detr.deploy.deploy import deploy
from helpers.small_models import batch, image, labels, small_model
from helpers.tiny_datasets import write_yolo

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
SIZES = [(96, 128), (64, 80)]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU and not os.environ.get("GPU_DRY_RUN"), reason="needs a GPU"),
]
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")


def scene(sizes):
    """Pixels and mask of a batch in float32, and its labels, on the device."""
    pixels, mask = batch([image(*size, seed=i) for i, size in enumerate(sizes)])
    told = labels([3] * len(sizes), sizes)
    for i, label in enumerate(told):
        label["noise_seed"] = torch.tensor(i)
    told = [{key: part.to(DEVICE) for key, part in label.items()} for label in told]
    return pixels.float().to(DEVICE), mask.to(DEVICE), [_float(label) for label in told]


def _float(label):
    return {key: part.float() if part.is_floating_point() else part for key, part in label.items()}


@pytest.mark.parametrize("policy", ["focus", "dense", "sparse", "interleaved", "salience"])
def test_a_gpu_detects_what_a_cpu_detects(policy):
    model = small_model(token_policy=policy, dtype=torch.float32)
    pixels, mask, _ = scene(SIZES)
    # TF32 is coarse enough to exchange neighbours in a ranking.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = model(pixels.cpu(), mask.cpu())
        found = copy.deepcopy(model).to(DEVICE)(pixels, mask)
    torch.testing.assert_close(found.pred_boxes.cpu(), expected.pred_boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.logits.cpu(), expected.logits, atol=1e-2, rtol=1e-3)


@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cuda_graphs_answer_as_the_deployed_model_does_also_where_sizes_alternate(dtype):
    model = small_model(dtype=torch.float32).cuda()
    plain, graphs = deploy(model, dtype=dtype), deploy(model, dtype=dtype, cuda_graphs=True)
    for height, width in [*SIZES, *SIZES]:
        pixels = torch.randn(1, 3, height, width, device="cuda")
        for budget in (None, 0.2, 1.0):
            expected, found = plain(pixels, budget=budget), graphs(pixels, budget=budget)
            near = (found.pred_boxes - expected.pred_boxes).abs().amax(-1) < (
                1e-3 if dtype == "float32" else 0.05
            )
            assert near.float().mean() >= (1.0 if dtype == "float32" else 0.9)
            assert (
                found.plan is None
                or torch.equal(found.plan.indices, expected.plan.indices)
                or (dtype != "float32")
            )


@needs_gpu
def test_cuda_graphs_answer_several_threads():
    model = small_model(dtype=torch.float32).cuda()
    plain, graphs = deploy(model), deploy(model, cuda_graphs=True)
    images = [torch.randn(1, 3, *size, device="cuda") for size in SIZES]
    expected = [plain(each).pred_boxes for each in images]

    def work(worker):
        for i in range(worker, worker + 6):
            found = graphs(images[i % len(images)]).pred_boxes
            torch.testing.assert_close(found, expected[i % len(images)], atol=1e-3, rtol=0)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))


def test_a_step_in_bfloat16_has_nearly_the_loss_of_float32_and_finite_gradients():
    model = small_model(dtype=torch.float32).to(DEVICE).train()
    pixels, mask, told = scene(SIZES)
    exact = model(pixels, mask, told).loss
    with torch.autocast(DEVICE, torch.bfloat16):
        rough = model(pixels, mask, told).loss
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0)
    rough.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 100 and all(gradient.isfinite().all() for gradient in gradients)


@needs_gpu
def test_a_larger_batch_makes_the_host_wait_no_more_often():
    def waits(count):
        model = small_model(dtype=torch.float32).cuda().train()
        arguments = scene(SIZES * (count // 2))
        model(*arguments).loss.backward()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model(*arguments).loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in caught)

    assert waits(8) <= waits(2) + 2


def test_training_ends_with_a_model_that_predicts(tmp_path):
    data = write_yolo(tmp_path / "data")
    changes = {"epochs": 1, "batch_size": 2, "precision": "bf16", "shortest_edge": 96, "longest_edge": 128}
    trained = FocusDetr("focus-detr-lite0").train(
        data, output=tmp_path / "run", recipe="small-data", overrides={**changes, "eval_split": None}
    )
    found = trained.predict(sorted((tmp_path / "data").rglob("*.png"))[0], threshold=0.0)
    assert len(found) == 1 and len(found[0].scores) > 0
