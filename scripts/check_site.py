"""What is wrong with a built site: dead links, and whatever a page would fetch from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHED = {"src", "srcset", "poster", "data"}
"""Attributes by which a page loads something."""


class _Page(HTMLParser):
    """Anchors of a page, where it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "__top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        loaded = [given[name] for name in _FETCHED if name in given]
        if tag in ("link", "use", "image"):
            loaded += [given[name] for name in ("href", "xlink:href") if name in given]
        elif "href" in given:
            self.links.append(given["href"])
        if "style" in given:
            loaded += _in_style(given["style"])
        self.loaded += loaded


def problems(site: Path) -> list[str]:
    """Each as text; none for a site whose links lead somewhere and which asks no other host for anything."""
    if not (site / "index.html").is_file():
        return [f"{site}: holds no site"]
    pages = {path: _Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its addresses begin at the root of a server
        name = path.relative_to(site)
        found += [f"{name}: loads {each} from elsewhere" for each in page.loaded if _foreign(each)]
        local = [each for each in page.links + page.loaded if not urlsplit(each).scheme]
        local = [each for each in local if not _foreign(each)]
        found += [f"{name}: {each} leads nowhere" for each in local if not _exists(path, each, pages)]
    for style in sorted(site.rglob("*.css")):
        name, loaded = style.relative_to(site), _in_style(style.read_text(encoding="utf-8"))
        found += [f"{name}: loads {each} from elsewhere" for each in loaded if _foreign(each)]
    return list(dict.fromkeys(found))


def _foreign(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def _in_style(text: str) -> list[str]:
    return re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)


def _exists(page: Path, address: str, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(address)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if target in pages:
        return unquote(parts.fragment) in pages[target].anchors
    return target.is_file()
