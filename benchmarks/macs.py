"""Operations by part, beside what was published.

    python benchmarks/macs.py

Billions of multiply-accumulates for one image, by the rule of `focus_detr.benchmarking.macs` (printed above
them). `form` is what is changed of a preset. `straightforward` counts the plain form, which like the
released code runs class and box heads on every token; `published` is what the papers print, each by a tool
and a list of images of its own.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import main, parser, size, write
from straightforward import Straightforward
from torch._subclasses.fake_tensor import FakeTensorMode

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.benchmarking import RULE, count_macs
from focus_detr.benchmarking.macs import counted

PRESETS = ("focus-detr-r50", "dino-r50", "focus-detr-swin-tiny", "focus-detr-lite0", "dino-lite0")
FORMS: dict[str, dict[str, Any]] = {
    "": {},
    "foreground_ffn=0.5": {"policy_options": {"foreground_ffn": 0.5}},
    "decoder_layers=2": {"used_decoder_layers": 2},
}
PUBLISHED = {"focus-detr-r50": 154, "dino-r50": 279}


def run(options: argparse.Namespace) -> None:
    print(f"counted: {RULE}", flush=True)
    rows = []
    for preset in options.presets.split(","):
        for height, width in options.size or [(800, 1333), (640, 640)]:
            for form, changes in FORMS.items():
                if form and not preset.startswith("focus"):
                    continue
                rows.append(row(preset, form, changes, height, width))
    write("macs", rows, options.output)


def row(preset: str, form: str, changes: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    config = FocusDetrConfig.from_preset(preset, quirks="original", **changes)
    cost = count_macs(config, height, width)
    return {
        "preset": preset, "form": form, "size": f"{height}x{width}", "tokens": cost.tokens,
        "kept": round(cost.kept_share, 4), "total": billions(cost.total),
        **{name: billions(macs) for name, macs in cost.parts().items()},
        "parameters_m": round(cost.parameters / 1e6, 2),
        "straightforward": "" if form else billions(plain_macs(config, height, width)),
        "published": PUBLISHED.get(preset, "") if (height, width) == (800, 1333) and not form else "",
    }  # fmt: skip


def plain_macs(config: FocusDetrConfig, height: int, width: int) -> int:
    """Multiply-accumulates of the straightforward form."""
    with FakeTensorMode():
        plain = Straightforward(FocusDetrForObjectDetection(config).eval().requires_grad_(False))
        return counted(plain, torch.empty(1, 3, height, width))[0]


def billions(macs: int) -> float:
    return round(macs / 1e9, 2)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1)
    arguments.add_argument("--size", type=size, action="append", help="HxW; repeatable")
    arguments.add_argument("--presets", default=",".join(PRESETS))
    main(run, arguments.parse_args())
