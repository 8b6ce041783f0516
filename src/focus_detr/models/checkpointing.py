"""A layer whose activations can be computed again in the backward pass, to save their memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from torch import nn


class CheckpointedLayer(nn.Module):
    """Base of layers that `gradient_checkpointing_enable` of a transformers model switches.

    As transformers' `GradientCheckpointingLayer`, by the same two names. That one's module brings all of text
    generation with it, which takes longer to import than torch.
    """

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        forward = cls.forward

        @wraps(forward)
        def again(self: CheckpointedLayer, *inputs: Any, **options: Any) -> Any:
            # `forward` and not the call: hooks of modules stay outside, and run once. A class below this one,
            # such as those that FSDP makes, wraps what is wrapped already; the outermost does it.
            if self.gradient_checkpointing and self.training and type(self).forward is again:
                return self._gradient_checkpointing_func(partial(forward, self, **options), *inputs)
            return forward(self, *inputs, **options)

        cls.forward = again
