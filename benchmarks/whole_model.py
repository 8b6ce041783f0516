"""A whole forward pass: the straightforward form against ours, eager, deployed and exported.

    python benchmarks/whole_model.py --threads 2
    python benchmarks/whole_model.py --threads 1 --runs 3 --forms straightforward,eager,deployed

ResNet-50, one image of 800x1066, random weights, Focus-DETR and dense DINO. All forms compute the same from
the same weights (quirks "original"); they take turns. Each is compared with the straightforward form of the
same model. `cpu_times_faster` is the ratio of what all threads spent: to be read where the machine was not
quiet. Exporting takes minutes: `--exports` says of which models. INT8 is calibrated on noise: speed does not
depend on it.
Targets: deployed in float32 at least 2 times, in bfloat16 or by OpenVINO at least 4 times.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import main, parser, picture_of_times, random_images, random_model, size, timing_columns, write
from exported import export_at, exported_work, noise
from straightforward import Straightforward

from focus_detr.benchmarking import take_turns
from focus_detr.deploy.deploy import deploy
from focus_detr.deploy.fusion import computes_natively

MODELS = {"focus": "focus-detr-r50", "dense": "dino-r50"}
FORMS = ("straightforward", "eager", "deployed", "deployed-bf16", "openvino", "openvino-int8")
SUFFIXES = {"openvino": ".xml", "openvino-int8": ".xml", "onnxruntime": ".onnx"}
TARGETS = {"deployed": 2.0, "deployed-bf16": 4.0, "openvino": 4.0, "openvino-int8": 4.0}


def run(options: argparse.Namespace) -> None:
    images = random_images(*options.size)
    works: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models.split(","):
            model = random_model(MODELS[name], quirks="original")
            for form in options.forms.split(","):
                if form in SUFFIXES and name not in options.exports.split(","):
                    continue
                path = Path(folder) / f"{name}-{form}{SUFFIXES.get(form, '')}"
                work = make(form, model, images, path, options.threads)
                if work is not None:
                    works[f"{name} {form}"] = work
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    rows = []
    for label, timing in timings.items():
        name, form = label.split()
        columns = timing_columns(timing, timings[f"{name} straightforward"])
        target = TARGETS.get(form) if name == "focus" else None
        met = "" if target is None else "yes" if columns["times_faster"] >= target else "no"
        focus = timings.get("focus straightforward", timing)
        rows.append({
            "model": name, "form": form, "size": f"{options.size[0]}x{options.size[1]}", **columns,
            "times_straightforward_focus": round(focus.median / timing.median, 2),
            "target": target or "", "met": met,
        })  # fmt: skip
    path = write("whole_model", rows, options.output)
    labels = [f"{row['model']}, {row['form']}" for row in rows]
    title = f"A forward pass at {rows[0]['size']}, {options.threads} thread(s)"
    picture_of_times(rows, labels, title, path.with_suffix(".png"))


def make(
    form: str, model: torch.nn.Module, images: torch.Tensor, path: Path, threads: int
) -> Callable[[], object] | None:
    """The form's forward pass; None where this machine cannot have it."""
    if form in SUFFIXES:
        kind, _, precision = form.replace("runtime", "").partition("-")
        options = {"precision": precision or "fp32", "calibration": noise(images) if precision else None}
        return exported_work(export_at(model, path, kind, images, **options), images, threads)
    if form == "deployed-bf16" and not computes_natively(torch.bfloat16, images.device):
        print("deployed-bf16: left out, this processor has no arithmetic for it", flush=True)
        return None
    plain = {
        "straightforward": lambda: Straightforward(model),
        "eager": lambda: model,
        "deployed": lambda: deploy(model),
        "deployed-bf16": lambda: deploy(model, dtype="bfloat16"),
    }[form]()
    return lambda: plain(images)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=size, default=(800, 1066))
    arguments.add_argument("--models", default=",".join(MODELS))
    arguments.add_argument("--forms", default=",".join(FORMS), help="one more is onnxruntime")
    arguments.add_argument("--exports", default="focus", help="models whose exports are measured")
    main(run, arguments.parse_args())
