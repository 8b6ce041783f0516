"""A detector whose objects have masks."""

from __future__ import annotations

import copy

from focus_detr.models.configuration import FocusDetrConfig
from focus_detr.models.pretrained import FocusDetrForObjectDetection
from focus_detr.structures.pixel_masks import HEAD


def detector_class(config: FocusDetrConfig) -> type[FocusDetrForObjectDetection]:
    """What a model of this configuration is."""
    return FocusDetrForInstanceSegmentation if HEAD in config.heads else FocusDetrForObjectDetection


class FocusDetrForInstanceSegmentation(FocusDetrForObjectDetection):
    """The detector with the head "masks", which it adds to a configuration that lacks it.

    `from_pretrained` takes a detector, too: all of it, and a mask head that is still to be trained.
    """

    def __init__(self, config: FocusDetrConfig) -> None:
        if HEAD not in config.heads:
            config = copy.deepcopy(config)
            config.heads = [*config.heads, HEAD]
        super().__init__(config)
