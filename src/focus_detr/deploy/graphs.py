"""CUDA graphs: a forward pass recorded once for each size, and replayed without what launching it costs.

At one image a GPU mostly waits for the host: a pass is a thousand small kernels. Recording one takes about as
long as a few passes, and compiles nothing.
"""

# Shapes: B images, H W height and width.

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from focus_detr.deploy.recent import Recent
from focus_detr.models.detector import FocusDetrOutput

_MOST_GRAPHS = 16  # they share their memory; what each keeps of its own is its input and its answer
_WARM_UP = 3  # libraries choose their algorithms, Triton compiles its kernels: none of it may be recorded

Dials = tuple[float | None, int | None]
"""Budget and decoder layers; None is what the configuration says, or all of them."""
Run = Callable[[Tensor, Dials], FocusDetrOutput]


class RecordedPasses:
    """Answers of ``run(images, dials)``, which must neither wait for the GPU nor copy to it from the host.

    Threads may share one; passes are computed one after the other. Copies and pickles begin without any.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._graphs: Recent[_Graph] = Recent(_MOST_GRAPHS)
        self._memory: Any = None

    def __call__(self, images: Tensor, dials: Dials) -> FocusDetrOutput:
        """images (B,3,H,W) on the GPU."""
        with self._lock:
            if self._memory is None:
                self._memory = torch.cuda.graph_pool_handle()
            key = (images.shape, images.dtype, images.device, dials)
            graph = self._graphs.get(key, lambda: _Graph(self._run, images, dials, self._memory))
            return graph(images)

    def clear(self) -> None:
        """Forget what was recorded: it knows where weights lie."""
        with self._lock:
            self._graphs.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordedPasses, (self._run,)


class _Graph:
    """One pass over images of one shape."""

    def __init__(self, run: Run, images: Tensor, dials: Dials, memory: Any) -> None:
        self._images = images.clone()
        self._free = torch.cuda.Event()
        beside = torch.cuda.Stream(images.device)
        beside.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.device(images.device), torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                run(self._images, dials)
        torch.cuda.current_stream(images.device).wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads' work is none of the recording's business.
        with torch.cuda.graph(self._graph, pool=memory, capture_error_mode="thread_local"):
            self._answer = run(self._images, dials)

    def __call__(self, images: Tensor) -> FocusDetrOutput:
        # Another stream's replay may still be reading the images, or its answer be on the way to its copy.
        self._free.wait()
        self._images.copy_(images)
        self._graph.replay()
        answer = copied(self._answer)
        self._free.record()
        return answer


def copied(output: FocusDetrOutput) -> FocusDetrOutput:
    """The answer in memory of its own: the next replay writes where this one did."""
    plan = output.plan
    if plan is not None:
        valid_counts = None if plan.valid_counts is None else plan.valid_counts.clone()
        scores = None if plan.scores is None else plan.scores.clone()
        chosen = None if plan.chosen is None else tuple(each.clone() for each in plan.chosen)
        plan = replace(
            plan, scores=scores, indices=plan.indices.clone(), valid_counts=valid_counts, chosen=chosen
        )
    tensors: dict[str, Any] = {
        name: value.clone() for name, value in output.items() if isinstance(value, Tensor)
    }
    extra = None if output.extra is None else {name: value.clone() for name, value in output.extra.items()}
    return replace(output, plan=plan, extra=extra, **tensors)
