"""Steady selection: in a video, what was foreground a frame ago counts for what is looked at now.

Tokens of a frame are ranked by its foreground scores and, for a share w of them, those of the frames before,

    ranked_t = (1 - w) * scores_t + w * ranked_(t-1),

so that fewer of the tokens that layers work on change from frame to frame. All else stays with the frame's
own scores: what a heat map shows, which tokens are fine-grained, an automatic budget.
"""

# Shapes: B images, N tokens of all levels.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.structures.frame import Frame
from focus_detr.structures.geometry import Geometry

CUT = 0.5
"""Correlation of two frames' scores, of the finest level, below which one is no successor of the other. With
the bundled models it was 0.84 to 1 from frame to frame, a camera moving by ten pixels included, 0.6 to 1 of
frames that lie 20 apart, and -0.1 to 0.3 across cuts."""

_STREAMS = 64
"""Streams of one run that are remembered, those seen last."""


class Steadying:
    """What is known of the streams of one run; pictures of no stream are ranked by themselves.

    The first frame of a stream starts afresh, and so does one behind a cut, or of another size than before.

    Args:
        share: of a token's rank that the frames before have, above 0 and below 1.

    Raises:
        FocusDetrError: it is no such share.
    """

    def __init__(self, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise FocusDetrError(
                f"steady={share!r}: must be a share above 0 and below 1, as 0.5; 0 leaves it out"
            )
        self.share = float(share)
        self._streams: OrderedDict[str, _Stream] = OrderedDict()

    def of(self, frames: Sequence[Frame | None]) -> Callable[[Tensor, Geometry], Tensor] | None:
        """How a model ranks the tokens of these pictures, as they come and once; None where none is a frame.

        Frames of one stream that are in one batch follow each other as they would in batches of one.
        """
        streams = [None if frame is None else self._stream(frame) for frame in frames]
        return partial(self._ranked, streams) if any(streams) else None

    def _stream(self, frame: Frame) -> _Stream:
        stream = self._streams.pop(frame.video, None)
        if stream is None or (frame.index <= stream.index and not frame.live):  # one that begins anew
            stream = _Stream()
        stream.index = frame.index
        self._streams[frame.video] = stream
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        return stream

    def _ranked(self, streams: Sequence[_Stream | None], scores: Tensor, geometry: Geometry) -> Tensor:
        ranked = scores.detach().clone()
        for row, stream in enumerate(streams):
            if stream is not None:
                # Without padding, of which another batch has more or less.
                own = slice(None) if geometry.valid is None else geometry.valid[row]
                first = geometry.sizes[row, 0]
                ranked[row, own] = stream.ranked(ranked[row, own], int(first[0] * first[1]), self.share)
        return ranked


@dataclass(eq=False)
class _Stream:
    index: int = -1
    before: Tensor | None = None
    finest: int = 0

    def ranked(self, scores: Tensor, finest: int, share: float) -> Tensor:
        before = self.before
        if before is not None and before.shape == scores.shape and self.finest == finest:
            if torch.corrcoef(torch.stack([scores, before])[:, :finest].float())[0, 1] >= CUT:
                scores = torch.lerp(scores, before, share)
        self.before, self.finest = scores, finest
        return scores
