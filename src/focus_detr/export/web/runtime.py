"""ONNX Runtime Web: what computes an ONNX model in a browser, got once and kept."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from focus_detr.errors import FocusDetrError
from focus_detr.export.packages import need
from focus_detr.zoo.cache import Place, place_of
from focus_detr.zoo.download import DownloadError, download


@dataclass(frozen=True)
class Release:
    """An archive of npm, by its checksum."""

    name: str
    address: str
    sha256: str

    @property
    def file(self) -> str:
        return self.address.rsplit("/", 1)[1]


RELEASE = Release(
    "onnxruntime-web-1.30.0",
    "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
)
# The build without WebGPU, half as large. As .js, since some servers do not know what .mjs is.
FILES = {
    "package/dist/ort.wasm.min.mjs": "ort.js",
    "package/dist/ort-wasm-simd-threaded.mjs": "ort-wasm.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort-wasm.wasm",
}
_NOTICES = ("LICENSE", "ThirdPartyNotices.txt")
_LARGEST = 200_000_000


def copy_runtime(folder: Path) -> None:
    """The runtime's files and licences into a new folder; the archive of npm is downloaded on first use.

    Raises:
        FocusDetrError: it cannot be had, with the address and the folder to put it into by hand.
    """
    # The archive of npm comes without them; they are those of the same project's package for Python.
    notices = Path(need("onnxruntime").__file__).parent
    place = place_of(RELEASE.name)
    if not _is_there(place):
        with place.locked():
            if not _is_there(place):  # by the process that was waited for
                _make(place)
    shutil.copytree(place.model, folder)
    for name in _NOTICES:
        shutil.copyfile(notices / name, folder / name)


def _is_there(place: Place) -> bool:
    return all((place.model / name).is_file() for name in FILES.values())


def _make(place: Place) -> None:
    archive = place.by_hand / RELEASE.file
    by_hand = archive.is_file()
    if not by_hand:
        archive = place.downloads / RELEASE.file
        try:
            download(RELEASE.address, archive, largest=_LARGEST)
        except DownloadError as error:
            raise FocusDetrError(
                f"{RELEASE.name}: cannot be downloaded from {RELEASE.address}: {error}. By hand: put "
                f"{RELEASE.file} (sha256 {RELEASE.sha256}) into {place.by_hand}, and go on as before"
            ) from error
    try:
        _check(archive)
    except FocusDetrError:
        if not by_hand:
            archive.unlink()  # or the next try would go on with it
        raise
    unfinished = place.model.with_name(f".{RELEASE.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with tarfile.open(archive) as files:
        for member, name in FILES.items():
            source = files.extractfile(member)
            assert source is not None  # the checksum says that it is there
            with source, open(unfinished / name, "wb") as target:
                shutil.copyfileobj(source, target)
    shutil.rmtree(place.model, ignore_errors=True)
    unfinished.rename(place.model)
    shutil.rmtree(place.downloads, ignore_errors=True)


def _check(archive: Path) -> None:
    from pooch import file_hash

    found = str(file_hash(str(archive), alg="sha256"))
    if found != RELEASE.sha256:
        raise FocusDetrError(
            f"{archive}: its sha256 is {found}, and not {RELEASE.sha256}: it is damaged, or another file. "
            f"It has to be {RELEASE.address}"
        )
