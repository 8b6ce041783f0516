"""Every host with every token policy: operations by part, parameters, latency, memory, published figures.

    python benchmarks/family.py --threads 1 --runs 3

ResNet-50, one image, random weights; 800x1333 and 640x640, in turns. Billions of multiply-accumulates by the
rule of `focus_detr.benchmarking.macs`. `kept` is the share of tokens a layer works on, mean of the layers.
`peak_mib` is what a process of its own holds at most, `forward_mib` what the forward pass adds to the loaded
model. On a machine that does other things `cpu_ms` is the time to trust. Published figures are of trained
models, by tools, images and machines of their own; those not given were not published for that host.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from common import main, parser, random_images, size, timing_columns, write

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.benchmarking import RULE, count_macs, peak_memory, take_turns
from focus_detr.models.hosts import HOSTS
from focus_detr.models.policies import POLICIES

SIZES = [(800, 1333), (640, 640)]
PRESETS = {
    "dino": "dino-r50",
    "deformable-detr": "deformable-r50",
    "dn-deformable-detr": "dn-deformable-r50",
    "salience-detr": "salience-detr-r50",
    "detr": "detr-r50",
}
# GFLOPs, AP on COCO val2017, epochs, and who says so.
PUBLISHED = {
    ("dino", "dense"): (235, 50.7, 36, "Lite-DETR, table 4"),
    ("dino", "focus"): (154, 50.4, 36, "GFLOPs: Dynamic DETR (ICML 2025), table 1; AP: Focus-DETR README"),
    ("dino", "interleaved"): (151, 50.4, 36, "Lite-DETR, table 4, H3L1-(2+1)x3"),
    ("dino", "sparse"): (152, 48.2, 36, "Dynamic DETR (ICML 2025), table 1"),
    ("dino", "salience"): ("", 51.2, 24, "Salience-DETR README, with its fusion network and proposals"),
    ("salience-detr", "salience"): ("", 51.2, 24, "Salience-DETR README"),
    ("deformable-detr", "dense"): (177.3, 46.0, 50, "Sparse DETR README"),
    ("deformable-detr", "interleaved"): (123, 46.7, 50, "Lite-DETR, table 3, H3L1-(2+1)x3"),
    ("deformable-detr", "sparse"): (120.5, 46.0, 50, "Sparse DETR README, keep ratio 0.3"),
    ("dn-deformable-detr", "dense"): ("", 49.5, 50, "DN-DETR README; detrex"),
    ("detr", "full-attention"): (86, 42.0, 500, "Sparse DETR README"),
    ("detr", "poll-and-pool"): ("", 41.1, 500, "Sparse DETR README, keep ratio 0.33"),
}


def pairs() -> Iterator[tuple[str, str]]:
    """Hosts and policies that work together."""
    for host in HOSTS.names():
        yield from ((host, name) for name in POLICIES.names() if POLICIES[name].works_with(host))


def configuration(host: str, policy: str) -> FocusDetrConfig:
    """The pair at the size of the published models."""
    return FocusDetrConfig.from_preset(PRESETS[host], token_policy=policy)


def prepare(host: str, policy: str, height: int, width: int, threads: int) -> Callable[[], object]:
    """One forward pass, for a process of its own."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = FocusDetrForObjectDetection(configuration(host, policy)).eval().requires_grad_(False)
    images = random_images(height, width)
    return lambda: model(images)


def run(options: argparse.Namespace) -> None:
    print(f"counted: {RULE}", flush=True)
    chosen = [pair for pair in pairs() if not options.pairs or "/".join(pair) in options.pairs.split(",")]
    rows: list[dict[str, Any]] = []
    for height, width in options.size or SIZES:
        works = {
            f"{host}/{policy}": prepare(host, policy, height, width, options.threads)
            for host, policy in chosen
        }
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
        for host, policy in chosen:
            config = configuration(host, policy)
            cost = count_macs(config, height, width)
            memory = peak_memory(prepare, host, policy, height, width, options.threads)
            timing = timing_columns(timings[f"{host}/{policy}"], timings["/".join(chosen[0])])
            gflops, ap, epochs, source = PUBLISHED.get((host, policy), ("", "", "", ""))
            rows.append({
                "host": host, "policy": policy, "size": f"{height}x{width}",
                "parameters_m": round(cost.parameters / 1e6, 2), "tokens": cost.tokens,
                "kept": round(cost.kept_share, 4), "total": billions(cost.total),
                **{name: billions(macs) for name, macs in cost.parts().items()},
                **{name: timing[name] for name in ("median_ms", "best_ms", "cpu_ms")},
                "peak_mib": round(memory.peak), "forward_mib": round(memory.growth),
                "published_gflops": gflops, "published_ap": ap, "published_epochs": epochs,
                "published_by": source,
            })  # fmt: skip
            print("measured:", *list(rows[-1].values())[:7], flush=True)
    write("family", rows, options.output)


def billions(macs: int) -> float:
    return round(macs / 1e9, 2)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=3)
    arguments.add_argument("--size", type=size, action="append", help="HxW; repeatable")
    arguments.add_argument("--pairs", default="", help="as in dino/focus,dino/dense; by default all")
    main(run, arguments.parse_args())
