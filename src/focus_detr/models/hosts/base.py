"""What every host is."""

# Shapes: B images, N tokens of all levels, Q queries, C channels, T objects.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.losses.objective import Objective
from focus_detr.models.proposals import Proposals, ProposalUser
from focus_detr.models.registry import NoOptions, Registry, read_options
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.queries import DenoisingQueries, Queries

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig

Labels = list[dict[str, Tensor]]


class Host(ProposalUser):
    """Everything after the encoder: makes queries, decodes them, and knows their losses.

    It is registered by ``@HOSTS.register(name)``, and chosen by
    ``FocusDetrConfig(host=name, host_options={...})``.

    Attributes:
        options_class: dataclass of its own options.
        coordinates_in_own_precision: in double precision, coordinates are too; else they are always float32.
        canvas_multiple: the padded canvas that a release sees has sides that this divides.
        single_scale: it works on one level, which is projected without a norm and needs no embedding.
        takes_start: whether `forward` takes ``start``, the queries of another pass over the same images, from
            which it then starts.
        takes_layers: whether `forward` takes ``layers``, how many of its decoder layers are run, the first
            ones, whose last then answers.
        scoring: how an image processor reads its logits; see `FocusDetrImageProcessor`.
        objective: what its predictions are taught by.
    """

    options_class: ClassVar[type] = NoOptions
    coordinates_in_own_precision: ClassVar[bool] = False
    canvas_multiple: ClassVar[int] = 1
    single_scale: ClassVar[bool] = False
    takes_start: ClassVar[bool] = False
    takes_layers: ClassVar[bool] = False
    scoring: ClassVar[str] = "sigmoid"
    objective: Objective

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(proposals)
        self.config = config
        self.options: Any = read_options(self.options_class, config.host_options, "host_options")

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        """Raise FocusDetrError where ``config`` cannot be used with this host."""
        read_options(cls.options_class, config.host_options, "host_options")
        if config.used_decoder_layers is not None:
            cls.check_layers(config, config.used_decoder_layers, "used_decoder_layers")

    @classmethod
    def two_stage(cls, config: FocusDetrConfig) -> bool:
        """Whether its queries come from the memory's proposals."""
        return True

    def forward(
        self,
        memory: Memory,
        labels: Labels | None = None,
        denoising: DenoisingQueries | None = None,
        *,
        with_samples: bool = False,
    ) -> DecoderOutput:
        """Predictions of every decoder layer.

        Args:
            labels: ground truth to draw denoising queries from.
            denoising: the denoising queries to use instead.
            with_samples: also tell where each layer sampled the memory.
        """
        raise NotImplementedError

    def accept_layers(self, layers: Any) -> int | None:
        """How many of its decoder layers a pass runs: a call's, or else the configuration's; None for all.

        Training teaches all of them, whatever the configuration says.

        Raises:
            FocusDetrError: it is no such number, this host takes none, or it is said in training.
        """
        c = self.config
        if layers is None:
            layers = None if self.training else c.used_decoder_layers
        if layers is None:
            return None
        self.check_layers(c, layers, "decoder_layers")
        if self.training:
            raise FocusDetrError(
                f"decoder_layers={layers}: training teaches every layer; leave it out, or model.eval() first"
            )
        return None if layers == c.decoder_layers and c.used_decoder_layers is None else int(layers)

    @classmethod
    def check_layers(cls, config: FocusDetrConfig, layers: Any, name: str) -> None:
        """Raise FocusDetrError, about ``name``, where a model of ``config`` cannot run so many layers."""
        whole = isinstance(layers, int) and not isinstance(layers, bool)
        if not whole or not 1 <= layers <= config.decoder_layers:
            raise FocusDetrError(
                f"{name}={layers!r}: must be a whole number from 1 to {config.decoder_layers}, how many of "
                "the model's decoder layers are run; None is all of them"
            )
        if not cls.takes_layers:
            raise FocusDetrError(
                f"{name}={layers}: host={config.host!r} runs all its decoder layers; leave it out, or let "
                "its `forward` take `layers` (`takes_layers`)"
            )

    def start(self) -> None:
        """Set parameters that belong to no layer, once its layers have started."""

    def proposals_to_teach(self, memory: Memory) -> Queries | None:
        """For single-stage hosts: no query comes from them, but a token policy uses their heads, which learn
        from what they propose in training."""
        if self.proposals is None or not self.training:
            return None
        c = self.config
        unused = memory.tokens.new_zeros(c.num_queries, c.d_model)
        return self.proposals.select(memory.tokens, memory.geometry, unused, c.switches.padded_queries)

    def losses(self, decoded: DecoderOutput, labels: Labels) -> dict[str, Tensor]:
        """The parts of the loss, already weighted."""
        return self.objective(decoded, labels)


HOSTS: Registry[Host] = Registry("host")
