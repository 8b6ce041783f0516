"""Published checkpoints as model folders: downloaded or put here by hand, checked, converted once, kept."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from focus_detr import _version
from focus_detr.errors import FocusDetrError, NotWrittenError
from focus_detr.printable import listed
from focus_detr.zoo.cache import Place, place_of
from focus_detr.zoo.download import DownloadError, download
from focus_detr.zoo.published import Published

logger = logging.getLogger(__name__)

_HUB_TIMEOUT = 5  # seconds for the hub to answer at all
RECORD = "source.json"
"""Beside a converted model: where it came from, and the checksum of its file."""


def fetch(model: Published) -> Path:
    """Folder of the published ``model``, which is made on first use.

    A file that a person put into the cache is taken before anything is downloaded. Where no checksum was
    published, that of the first file is recorded, and every later one has to have it.

    Raises:
        FocusDetrError: it cannot be used here or cannot be had, with the address, the folder to put the file
            into by hand and how to go on; it is not the file that was published, or not of its layout.
    """
    place = place_of(model.name)
    if place.is_complete:
        return place.model
    if model.unusable:
        raise FocusDetrError(f"{model.name}: cannot be used: {model.unusable} ({model.address})")
    with place.locked():
        if not place.is_complete:  # by the process that was waited for
            _make(model, place)
    return place.model


def _make(model: Published, place: Place) -> None:
    by_hand = _has_all(place.by_hand, model)
    folder = place.by_hand if by_hand else place.downloads
    if not _has_all(folder, model):  # nor from a run that was interrupted afterwards
        _get(model, place)
    try:
        checksum = _checked(model, folder / model.file_name, place)
        _convert(model, folder, place, checksum)
    except (OSError, NotWrittenError) as error:
        raise FocusDetrError(f"{model.name}: cannot be kept in {place.model.parent} ({error})") from error
    except FocusDetrError as error:
        if by_hand:
            fix = f"Put the right file into {folder}, or remove it to have it downloaded"
        else:
            shutil.rmtree(folder, ignore_errors=True)
            fix = f"It came from {model.address} and was removed; trying again downloads it again"
        raise FocusDetrError(f"{model.name}: {error}. {fix}") from error
    _record(model, checksum, place)
    shutil.rmtree(place.downloads, ignore_errors=True)


def _has_all(folder: Path, model: Published) -> bool:
    return all((folder / name).is_file() for name in model.files)


def _get(model: Published, place: Place) -> None:
    """The files of the checkpoint into the folder of downloads; each appears there whole."""
    if not model.is_downloadable:
        raise _by_hand(model, place, "it lies where a person has to fetch it")
    logger.info("%s: not here yet; downloading %s", model.name, model.address)
    try:
        if model.hub is not None:
            _get_from_hub(model, place)
            return
        part = place.downloads / f"{model.file_name}.part"
        download(model.address, part)
        os.replace(part, place.downloads / model.file_name)
    except DownloadError as error:
        raise _by_hand(model, place, str(error)) from error


def _get_from_hub(model: Published, place: Place) -> None:
    from huggingface_hub import HfApi, hf_hub_download
    from tqdm import tqdm

    assert model.hub is not None
    try:
        # Asked first, as downloading tries again for half a minute where there is no connection.
        HfApi().model_info(model.hub, revision=model.revision, timeout=_HUB_TIMEOUT)
        for name in model.files:
            # Its own bar is silenced on the command line, where it would show for each small file read.
            hf_hub_download(
                model.hub, name, revision=model.revision, local_dir=place.downloads, tqdm_class=tqdm
            )
    except Exception as error:  # the client's errors share no base: offline, moved, private, no space ...
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DownloadError(f"the Hugging Face hub did not give it ({lines[0]})") from error


def _by_hand(model: Published, place: Place, reason: str) -> FocusDetrError:
    """What to do where no program can get the file, or none now."""
    checksum = f" (sha256 {model.sha256})" if model.sha256 else ""
    files = " and ".join([f"{model.file_name}{checksum}", *model.files[1:]])
    command = (
        f", or where there is a connection: hf download {model.hub} {' '.join(model.files)} --revision "
        f"{model.revision} --local-dir FOLDER"
        if model.hub is not None
        else ""
    )
    there = [path.name for path in sorted(place.by_hand.iterdir())]
    found = f" (there is {listed(there)}, which is another name)" if there else ""
    return FocusDetrError(
        f"{model.name}: cannot be downloaded from {model.address}: {reason}. By hand: put {files} into "
        f"{place.by_hand}{found}{command}; then go on as before, or by: focus-detr download {model.name}"
    )


def _checked(model: Published, file: Path, place: Place) -> str:
    """The checksum of ``file``, which has to be the published one, and that of the first file seen."""
    from pooch import file_hash

    found = str(file_hash(str(file), alg="sha256"))
    first = place.checksum.read_text(encoding="utf-8").split()[0] if place.checksum.is_file() else None
    for wanted, by in ((model.sha256, "was published"), (first, f"{place.checksum} says of the first one")):
        if wanted and not found.startswith(wanted):
            raise FocusDetrError(
                f"{file}: its sha256 is {found}, and not {wanted}, as {by}: it is damaged, or another file"
            )
    return found


def _record(model: Published, checksum: str, place: Place) -> None:
    if model.sha256 == checksum or place.checksum.is_file():
        return
    place.checksum.write_text(f"{checksum}  {model.file_name}\n", encoding="utf-8")
    logger.info(
        "%s: no whole checksum of %s was published; that of this file, sha256 %s, is recorded in %s, and any "
        "later file has to have it",
        model.name,
        model.file_name,
        checksum,
        place.checksum,
    )


def _convert(model: Published, folder: Path, place: Place, checksum: str) -> None:
    from focus_detr.convert import convert_checkpoint

    source = folder if model.hub is not None else folder / model.file_name
    unfinished = place.model.with_name(f".{model.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        report = convert_checkpoint(
            source,
            unfinished,
            backbone=model.backbone,
            temperature=model.temperature,
            offset=model.offset,
            policy_options=model.policy_options,
        )
        if report.layout != model.layout:
            raise FocusDetrError(f"{source}: its layout is {report.layout}, and not {model.layout}")
        (unfinished / RECORD).write_text(json.dumps(_origin(model, checksum), indent=1), encoding="utf-8")
        shutil.rmtree(place.model, ignore_errors=True)  # what somebody took the config.json of
        os.replace(unfinished, place.model)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _origin(model: Published, checksum: str) -> dict[str, Any]:
    return {
        "name": model.name,
        "address": model.address,
        "sha256": checksum,
        "licence": model.licence,
        "licence_of": model.licence_of,
        "data": model.data,
        "published_ap": model.ap,
        "converted_by": f"focus-detr {_version.__version__}",
    }
