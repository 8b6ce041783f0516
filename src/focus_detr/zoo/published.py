"""Checkpoints that others published: what each is, where it lies, and what its file does not say.

The table is `published.yaml`. Nothing here downloads: see `fetching`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from focus_detr.errors import FocusDetrError, did_you_mean

_TABLE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """A checkpoint as its authors describe it.

    Attributes:
        name: what it is called here.
        family: the method.
        layout: its layout, by the name that `focus_detr.convert` has for it.
        file: its file, below ``base`` or in the repository at the hub.
        read_in: where the figures were read.
        licence, licence_of: the licence, and what carries it: seldom the file itself.
        data: what it was trained on.
        ap: AP on COCO val2017, 0..1, as published.
        epochs: it was trained for, where stated.
        base: what its address begins with, where it can be downloaded.
        page: the address of a web page to get it from by hand, where it cannot.
        hub, revision: the repository at the Hugging Face hub and its commit.
        backbone: the backbone that its tensors must show (`list_backbones`).
        megabytes: its size, where stated.
        sha256: its checksum, or the first digits of it, where one is published.
        temperature, offset: of the position encoding, where they are not the layout's own.
        policy_options: what its tensors do not show of its token policy.
        unusable: why it cannot be used here, if so.
        note: what to know of it.
        real_file: whether this package has been run on the real file, and given what its authors measured.
    """

    name: str
    family: str
    layout: str
    file: str
    read_in: str
    licence: str
    licence_of: str
    data: str
    ap: float
    epochs: int | None = None
    base: str | None = None
    page: str | None = None
    hub: str | None = None
    revision: str | None = None
    backbone: str | None = None
    megabytes: int | None = None
    sha256: str | None = None
    temperature: float | None = None
    offset: float | None = None
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    unusable: str | None = None
    note: str | None = None
    real_file: bool = False

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.base, self.page, self.hub)) != 1:
            raise FocusDetrError(f"published model {self.name!r}: needs one of base, page and hub")

    @property
    def address(self) -> str:
        """Where to get the file: its own address, or that of the page or repository that has it."""
        if self.hub is not None:
            return f"https://huggingface.co/{self.hub}/blob/{self.revision}/{self.file}"
        return self.page or f"{self.base}{self.file}"

    @property
    def file_name(self) -> str:
        """Name of the file alone."""
        return self.file.rpartition("/")[2]

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the checkpoint: weights of the hub have their configuration beside them."""
        return (self.file_name, "config.json") if self.hub is not None else (self.file_name,)

    @property
    def is_downloadable(self) -> bool:
        """Whether a program can get it; shops of files that show a page to a person first are no help."""
        return self.page is None and urlsplit(self.address).hostname not in _SHOWN_TO_PEOPLE


_SHOWN_TO_PEOPLE = ("drive.google.com", "docs.google.com", "pan.baidu.com")


@functools.cache
def published_models() -> Mapping[str, Published]:
    """The table, by name, in its order."""
    import yaml

    models: dict[str, Published] = {}
    for group in yaml.safe_load(_TABLE.read_text(encoding="utf-8")):
        shared = {key: value for key, value in group.items() if key != "checkpoints"}
        for name, own in group["checkpoints"].items():
            if name in models:
                raise FocusDetrError(f"{_TABLE.name}: {name!r} stands there twice")
            models[name] = Published(name, **{**shared, **own})
    return models


def list_published() -> list[str]:
    """Names of the published checkpoints that are known, those that cannot be used here among them."""
    return list(published_models())


def find_published(name: str) -> Published:
    """The published checkpoint of that name.

    Raises:
        FocusDetrError: there is none.
    """
    models = published_models()
    if name not in models:
        raise FocusDetrError(
            f"published model {name!r} is not known{did_you_mean(name, models)}; `focus-detr models` lists "
            "them"
        )
    return models[name]
