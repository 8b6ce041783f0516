"""What every head beside class and box is."""

# Shapes: B images, Q queries, C channels, T objects.

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from focus_detr.losses.targets import Joint, Matches
from focus_detr.models.registry import NoOptions, Registry, read_options
from focus_detr.structures.memory import DecoderOutput, Memory

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


class Head(nn.Module):
    """Says something of every query beside its class and its box, with any host.

    It is registered by ``@HEADS.register(name)``, and chosen by
    ``FocusDetrConfig(heads=[name], head_options={name: {...}})``.

    Attributes:
        options_class: dataclass of its own options.
        needs_fine_map: whether it looks at ``memory.fine_map``.
    """

    options_class: ClassVar[type] = NoOptions
    needs_fine_map: ClassVar[bool] = False

    def __init__(self, config: FocusDetrConfig, options: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.options: Any = read_options(self.options_class, options, "head_options")

    @classmethod
    def check(cls, config: FocusDetrConfig, options: dict[str, Any]) -> None:
        """Raise FocusDetrError where ``config`` and ``options`` cannot be used with this head."""
        read_options(cls.options_class, options, "head_options")

    def start(self) -> None:
        """Set parameters that belong to no layer, once its layers have started."""

    def forward(self, decoded: DecoderOutput, memory: Memory) -> Any:
        """(B,Q,...), of ``decoded.last`` (B,Q,C); what it was decoded from is at hand.

        Several tensors are a dict of them: `extra` then has them as NAME_KEY.
        """
        raise NotImplementedError

    def joint(
        self, predicted: Any, decoded: DecoderOutput, labels: list[dict[str, Tensor]]
    ) -> Sequence[Joint]:
        """One a decoder layer, of all its queries (denoising ones come first): what of the head has a part in
        matching, and is then taught to all layers; none where `losses` does."""
        return ()

    def losses(self, predicted: Any, matches: Matches, labels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """What teaches the head, already weighted.

        Args:
            predicted: what `forward` gave.
            matches: which query stands for which object: ``image``, ``query`` and ``object``, (M,) each.
            labels: one dict an image, of its T objects; ``object`` counts in it.
        """
        return {}


HEADS: Registry[Head] = Registry("heads")
