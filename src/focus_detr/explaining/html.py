"""One plain file of HTML: no network, no server; what it shows is inside, and what is inside is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from importlib.resources import files
from string import Template
from typing import Any

from PIL import Image

from focus_detr.printable import finite, in_line


def html_page(kind: str, title: str, values: dict[str, str], data: dict[str, Any]) -> str:
    """The page of templates/``kind``.html, moved by common.js and ``kind``.js.

    Args:
        title: of the window and the page, plain text.
        values: of the template: plain text, which is escaped here, or `Markup`.
        data: what the scripts read, plain values.
    """
    style = _template("page.css")
    script = f"{_template('common.js')}\n{_template(f'{kind}.js')}"
    body = {
        name: value if isinstance(value, Markup) else escaped(value)
        for name, value in {"title": title, **values}.items()
    }
    return Template(_template("page.html")).substitute(
        title=escaped(title),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        body=Template(_template(f"{kind}.html")).substitute(body),
        data=embedded(data),
    )


class Markup(str):
    """Text that is HTML already."""


def escaped(text: str) -> str:
    """Plain text as HTML, in elements and in quoted attributes; without control characters."""
    return html.escape(in_line(text, 500), quote=True)


def paragraphs(texts: list[str]) -> Markup:
    """A note each."""
    return Markup("\n".join(f'<p class="note">{escaped(text)}</p>' for text in texts))


def embedded(value: Any) -> str:
    """JSON that no name inside it can end, as `</script>` would."""
    text = json.dumps(finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(image: Image.Image, longest: int, quality: int = 82) -> Markup:
    """A JPEG inside an address, no side longer than so many pixels."""
    picture = image.convert("RGB")
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Markup("data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode())


def _template(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    # By which the page's own policy knows its style and script from any other.
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
