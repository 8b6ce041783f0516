"""Pictures of a request's body: the body itself, or the files of a form, held in memory alone."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from focus_detr.printable import unicode_name
from focus_detr.service.errors import ServiceError


@dataclass(frozen=True)
class Upload:
    """A file's content, and the name its sender calls it by."""

    name: str
    content: bytes


class _InMemory(MultiPartParser):
    """Writes no file: the gate has limited the body, and a container's disk may be read-only."""

    spool_max_size = 1 << 40


async def one_picture(request: Request) -> Upload:
    """The picture of a request for one: form field ``image``, or a body of a type image/*.

    Raises:
        ServiceError: another type of body, no picture in it, or several.
    """
    kind = _kind_of(request)
    if kind.startswith("image/"):
        content = await request.body()
        if not content:
            raise ServiceError(400, "bad_request", "the body is empty; send a picture's file in it")
        return Upload("image", content)
    uploads = await _files(request, kind, "image", 1)
    return uploads[0]


async def several_pictures(request: Request, most: int) -> list[Upload]:
    """The pictures of a request for many: form fields ``image`` (or ``images``), each a file.

    Raises:
        ServiceError: no form, no picture in it, or more than ``most``.
    """
    return await _files(request, _kind_of(request), "image", most)


async def _files(request: Request, kind: str, field: str, most: int) -> list[Upload]:
    if kind != "multipart/form-data":
        raise ServiceError(
            415,
            "unsupported_media_type",
            f"send multipart/form-data with the picture in the field {field!r}, or the picture itself as "
            "image/jpeg, image/png or another type image/*",
        )
    parser = _InMemory(request.headers, request.stream(), max_files=most, max_fields=8, max_part_size=4096)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Part exceeded" in error.message:  # of what is no file, which is kept short
            raise ServiceError(
                400, "bad_request", f"a long field of the form is no file; give {field!r} a file name"
            ) from error
        if "Too many files" in error.message:
            raise ServiceError(
                413, "too_many_files", f"more than {most} file(s), which is the most that are taken at once"
            ) from error
        raise ServiceError(
            400, "bad_request", f"the form in the body cannot be read: {error.message}"
        ) from error
    except (KeyError, ValueError, UnicodeError) as error:  # no boundary, a header that is none
        raise ServiceError(400, "bad_request", "the form in the body cannot be read") from error
    uploads = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise ServiceError(
                400, "bad_request", f"the field {name[:40]!r} is no file; parameters belong into the address"
            )
        if name not in (field, f"{field}s"):
            raise ServiceError(400, "bad_request", f"no field {name[:40]!r} is known; call it {field!r}")
        uploads.append(Upload(unicode_name(value.filename or "image")[:200], await value.read()))
    if not uploads:
        raise ServiceError(400, "bad_request", f"the form has no file; put the picture into {field!r}")
    return uploads


def _kind_of(request: Request) -> str:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise ServiceError(
            415,
            "unsupported_media_type",
            f"Content-Encoding {encoding[:20]!r} is not taken; send the picture as it is",
        )
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
