"""Time from nothing to the first detection, as whole processes, in turns.

    git worktree add ../before COMMIT
    python benchmarks/start.py --before ../before --onnx FOLDER --runs 15

Processes that find the objects of one picture: `focus-detr predict everyday`, of this source tree and of the
one of `--before`; `focus-detr-runtime` and `focus-detr predict` with the model as ONNX, exported here by each
tree; and, for scale, Python alone, `import torch`, and the shortest script there is for
YOLOX-nano and PicoDet-S in ONNX Runtime, from FOLDER. Each runs once unmeasured, so that files are in memory,
then all take turns. `cpu_ms` is processor time of all threads, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import main, parser, write

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "examples" / "everyday" / "desk.jpg"
PEERS = {"YOLOX-nano": ("yolox_nano.onnx", 255), "PicoDet-S": ("picodet_s_416_coco.onnx", 1)}
BARE = """
import sys
import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
picture = Image.open(sys.argv[2]).convert("RGB").resize((416, 416))
pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] * (float(sys.argv[3]) / 255)
given = {each.name: pixels for each in session.get_inputs() if len(each.shape) == 4}
given |= {
    each.name: np.ones((1, 2), np.float32) for each in session.get_inputs() if len(each.shape) == 2
}
print([output.shape for output in session.run(None, given)])
"""


@dataclass
class Process:
    """A command, its environment, and what its runs took."""

    arguments: Sequence[str]
    source: Path
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, threads: int) -> None:
        """Once, to its end."""
        environment = os.environ | {"PYTHONPATH": str(self.source), "OMP_NUM_THREADS": str(threads)}
        begun = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, *self.arguments],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert child.stderr is not None
        said = child.stderr.read()  # to its end, so that it never waits to be read
        _, status, used = os.wait4(child.pid, 0)
        self.seconds.append(time.perf_counter() - begun)
        self.cpu.append(used.ru_utime + used.ru_stime)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(self.arguments)}: {said.decode()[-2000:]}")


def processes(options: argparse.Namespace, exported: Path) -> Mapping[str, Process]:
    """By name, those to be compared."""
    source, picture = ROOT / "src", str(options.picture)
    predict = ["-m", "focus_detr", "predict"]
    found = {
        "python": Process(["-c", "pass"], source),
        "import torch": Process(["-c", "import torch"], source),
        "predict everyday": Process([*predict, "everyday", picture, "--device", "cpu"], source),
        "predict everyday.onnx": Process([*predict, str(exported), picture], source),
        "focus-detr-runtime everyday.onnx": Process(
            ["-m", "focus_detr.runtime.cli", str(exported), picture], source
        ),
    }
    if options.before:
        before = options.before.absolute() / "src"
        found["predict everyday, before"] = Process(
            [*predict, "everyday", picture, "--device", "cpu"], before
        )
        older = export(exported.with_stem(f"{exported.stem}-before"), before)
        found["predict everyday.onnx, before"] = Process([*predict, str(older), picture], before)
    for name, (file, white) in PEERS.items() if options.onnx else ():
        found[f"bare script, {name}"] = Process(
            ["-c", BARE, str(options.onnx / file), picture, str(white)], source
        )
    return found


def export(file: Path, source: Path = ROOT / "src") -> Path:
    """The bundled model as ONNX, at the size that the picture has in it; each tree reads what it wrote."""
    arguments = ["export", "everyday", "--size", "320x416", "--batch", "1", "--output", str(file)]
    Process(["-m", "focus_detr", *arguments], source).run(os.cpu_count() or 1)
    return file


def run(options: argparse.Namespace) -> None:
    """All of them, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "everyday.onnx"
        compared = processes(options, export(exported))
        for turn in range(options.warmup + options.runs):
            for process in compared.values():
                process.run(options.threads)
                if turn < options.warmup:
                    process.seconds.clear()
                    process.cpu.clear()
                time.sleep(options.pause)
    rows = [
        {
            "process": name,
            "least_ms": round(1e3 * min(process.seconds)),
            "median_ms": round(1e3 * statistics.median(process.seconds)),
            "least_cpu_ms": round(1e3 * min(process.cpu)),
            "median_cpu_ms": round(1e3 * statistics.median(process.cpu)),
            "runs": len(process.seconds),
        }
        for name, process in compared.items()
    ]
    write("start", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__, runs=10)
    arguments.add_argument("--before", type=Path, help="another source tree, for `predict everyday`")
    arguments.add_argument("--onnx", type=Path, help="folder of the ONNX peers")
    arguments.add_argument("--picture", type=Path, default=PICTURE)
    main(run, arguments.parse_args())
