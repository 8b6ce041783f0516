"""The weights that a run starts from, of which a share stays in those that are evaluated and saved.

Weights half way between a trained model's and what a training on other data made of them often detect better
than either (WiSE-FT, Wortsman et al., CVPR 2022, there for classifiers): what the new data say nothing of
is kept, and of what a short training gets wrong half is taken back.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class StartShare:
    """Models made of others' weights and of those of the ``start``, which counts ``share`` of them.

    Its state is the start itself: a resumed run begins with the weights of its checkpoint.
    """

    def __init__(self, start: nn.Module, share: float) -> None:
        self.share = share
        self._weights = {name: weight.detach().cpu().clone() for name, weight in _floating(start)}

    @torch.no_grad()
    def mixed(self, model: PreTrainedModel) -> PreTrainedModel:
        """A copy of ``model``, moved by the share of the way back to the start."""
        moved = copy.deepcopy(model)
        for name, weight in _floating(moved):
            weight.lerp_(self._weights[name].to(weight), self.share)
        return moved

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._weights)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._weights = dict(state)


def _floating(model: nn.Module) -> list[tuple[str, Tensor]]:
    # Views of the weights themselves; whole numbers, such as counters, cannot be between two.
    return [(name, each) for name, each in model.state_dict().items() if each.is_floating_point()]
