"""Images with names, not read yet, and the many that one name may stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.reduced import SizedImage, SizeRule
from focus_detr.inference.results import BadImage
from focus_detr.structures.frame import Frame


@dataclass(frozen=True)
class NamedImage:
    """An image not read yet. Loading it gives upright RGB or a `BadImage`, and never raises.

    `read_small`, where there is a shorter way to an image of the size that a rule gives, takes that way.
    `frame` is its place in a video, where it is of one.
    """

    name: str
    read: Callable[[], Image.Image]
    read_small: Callable[[SizeRule], SizedImage] | None = None
    frame: Frame | None = None

    def load(self) -> Image.Image | BadImage:
        """The whole image."""
        loaded = self._load(self.read)
        return loaded if isinstance(loaded, BadImage) else loaded.image

    def load_for(self, rule: SizeRule | None) -> SizedImage | BadImage:
        """The image as good as whole for use at the size that ``rule`` gives (see `read_for`)."""
        read, small = self.read, self.read_small
        return self._load(read if rule is None or small is None else lambda: small(rule))

    def _load(self, read: Callable[[], Image.Image | SizedImage]) -> SizedImage | BadImage:
        try:
            found = read()
            return found if isinstance(found, SizedImage) else SizedImage(found, found.size)
        except FocusDetrError as error:
            said = str(error).removeprefix(f"{self.name}: ").removeprefix("image data: ")  # has no other name
            return BadImage(self.name, said)
        except Exception as error:  # one bad image must not end a run of thousands
            return BadImage(self.name, f"{type(error).__name__}: {error}")


class Nothing(BadImage):
    """A source behind which there is nothing: a missing file, an empty folder, a pattern without match."""


@dataclass(frozen=True)
class Series:
    """The images behind one name, made as they are asked for: those of a video hold their pixels already.

    `expected` guesses their number, None where nobody can. `live`: they are of a camera or stream.
    """

    name: str
    images: Callable[[], Iterator[NamedImage | BadImage]]
    expected: Callable[[], int | None] = lambda: None
    live: bool = False
