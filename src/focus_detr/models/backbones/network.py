"""What the package's own backbones have in common: networks that need no transformers model around them."""

# Shapes: B images, C channels, H W height and width; _l of a feature map.

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn


class FeatureMaps(NamedTuple):
    """`feature_maps`: (B,C_l,H_l,W_l) each, fine to coarse."""

    feature_maps: tuple[Tensor, ...]


class BackboneNetwork(nn.Module):
    """A network that gives the maps which ``config.out_features`` names.

    Attributes:
        config: its transformers configuration.
        num_features: channels of the maps of every stage in ``config.stage_names``.
        stage_strides: input pixels a cell of each of these maps.
    """

    config: Any
    num_features: list[int]
    stage_strides: tuple[int, ...]

    def begin(self, config: Any) -> None:
        """What has to be there before parts are added. The transformers form (`own`) has more to do."""
        nn.Module.__init__(self)
        self.config = config

    @property
    def channels(self) -> list[int]:
        """C_l of each map."""
        return [self.num_features[place] for place in _places(self.config)]

    @classmethod
    def strides(cls, config: Any) -> list[int]:
        """Input pixels a cell of each map that a network of this configuration gives."""
        return [cls.stage_strides[place] for place in _places(config)]


def _places(config: Any) -> list[int]:
    return [config.stage_names.index(name) for name in config.out_features]
