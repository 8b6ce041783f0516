"""The detector as a transformers model: `from_pretrained`, `save_pretrained`, the hub, Auto classes.

Apart from the detector, since transformers' model class takes longer to import than torch does, and pictures
are looked at without it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from focus_detr.models.configuration import FocusDetrConfig
from focus_detr.models.detector import Detector
from focus_detr.models.initialization import initialize, start_parts
from focus_detr.models.precision import full_precision_parts
from focus_detr.models.renamed import RENAMED


class FocusDetrForObjectDetection(Detector, PreTrainedModel):
    """A host (queries, decoder, matching) behind an encoder with a token policy.

    Focus-DETR ("Less is More: Focus Attention for Efficient DETR", ICCV 2023) is the host "dino" with the
    policy "focus"; with the policy "dense" it is DINO. What it computes stands in `Detector`.
    """

    config_class = FocusDetrConfig
    config: FocusDetrConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    bare = False

    def __init__(self, config: FocusDetrConfig) -> None:
        super().__init__(config)
        self._keep_in_fp32_modules_strict = full_precision_parts(self)  # for from_pretrained(dtype=...)
        self.post_init()

    def begin(self, config: FocusDetrConfig) -> None:
        """As `Detector.begin`, and what transformers adds."""
        PreTrainedModel.__init__(self, config)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As `transformers.PreTrainedModel.from_pretrained`; what the configuration freezes stays frozen,
        and names that parameters once had are known."""
        kwargs.setdefault("key_mapping", RENAMED)
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.backbone.freeze()
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        initialize(module)
        if module is self:
            start_parts(self)
            if self.level_embedding is not None:
                init.normal_(self.level_embedding)
