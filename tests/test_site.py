"""The site: every page has its place, links lead somewhere, and no page asks another host for anything."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import focus_detr
from helpers.browser import browser  # noqa: F401

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SETTINGS = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
SECTIONS = [content for entry in SETTINGS["nav"] for content in entry.values()]
ENTRIES = [[{"": each}] if isinstance(each, str) else each for each in SECTIONS]
PAGES = [page for section in ENTRIES for entry in section for page in entry.values()]


@pytest.fixture(scope="module")
def check(request: pytest.FixtureRequest) -> Any:
    sys.path.insert(0, str(ROOT / "scripts"))
    request.addfinalizer(lambda: sys.path.remove(str(ROOT / "scripts")))
    return importlib.import_module("check_site").problems


def write(site: Path, **pages: str) -> Path:
    site.mkdir(exist_ok=True)
    for name, text in pages.items():
        (site / f"{name}.html").write_text(text)
    return site


def test_every_page_has_its_place_and_its_line() -> None:
    files = sorted(path.name for path in DOCS.glob("*.md"))
    assert sorted(PAGES) == files
    assert sorted(SETTINGS["extra"]["about"]) == files


def test_a_good_site_has_no_problems(check: Any, tmp_path: Path) -> None:
    index = '<a href="other.html#here">a</a> <a href="https://a.org">b</a> <img src="data:,">'
    other = '<h2 id="here">h</h2> <a href="#here">a</a> <a href="index.html">b</a>'
    assert check(write(tmp_path / "site", index=index, other=other)) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('<a href="no.html">a</a>', "index.html: no.html leads nowhere"),
        ('<a href="#no">a</a>', "index.html: #no leads nowhere"),
        ('<a href="other.html#no">a</a>', "index.html: other.html#no leads nowhere"),
        ('<img src="../out.png">', "index.html: ../out.png leads nowhere"),
        (
            '<script src="https://a.org/x.js"></script>',
            "index.html: loads https://a.org/x.js from elsewhere",
        ),
        ('<script src="//a.org/x.js"></script>', "index.html: loads //a.org/x.js from elsewhere"),
        (
            '<link rel="stylesheet" href="https://a.org">',
            "index.html: loads https://a.org from elsewhere",
        ),
        (
            '<p style="background: url(https://a.org/b)">',
            "index.html: loads https://a.org/b from elsewhere",
        ),
    ],
)
def test_dead_links_and_foreign_files_are_seen(check: Any, tmp_path: Path, page: str, problem: str) -> None:
    assert check(write(tmp_path / "site", index=page, other="")) == [problem]


def test_foreign_fonts_of_style_sheets_are_seen(check: Any, tmp_path: Path) -> None:
    site = write(tmp_path / "site", index="")
    (site / "a.css").write_text('@import "https://a.org/font.css"; p { src: url("https://a.org/f.woff") }')
    assert len(check(site)) == 2


def test_a_folder_without_a_site_is_no_good_site(check: Any, tmp_path: Path) -> None:
    assert check(tmp_path) == [f"{tmp_path}: holds no site"]


def documented() -> list[str]:
    return re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_reference_names_what_is_there() -> None:
    for name in documented():
        module, _, member = name.rpartition(".")
        assert getattr(importlib.import_module(module), member).__doc__, name


def test_the_reference_holds_all_that_the_package_offers() -> None:
    names = {name.rpartition(".")[2] for name in documented()}
    assert {name for name in focus_detr.__all__ if name != "__version__"} <= names


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built of a copy."""
    pytest.importorskip("zensical")
    root = tmp_path_factory.mktemp("copy")
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("src", "benchmarks", "examples"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "zensical.toml", root)
    command = [sys.executable, "scripts/build_site.py"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / SETTINGS["site_dir"]


@pytest.mark.slow
def test_it_is_built_without_warnings_and_tells_language_models_what_there_is(site: Path) -> None:
    said = (site / "llms.txt").read_text(encoding="utf-8")
    assert said.startswith(f"# {SETTINGS['site_name']}\n\n> ")
    assert re.findall(r"^- \[[^]]+\]\(([\w-]+\.md)\): .", said, re.MULTILINE) == PAGES
    assert all((site / page).is_file() for page in PAGES)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_in_a_browser_it_asks_no_other_host_and_fits_a_phone(
    browser: Any,  # noqa: F811
    site: Path,
    scheme: str,
    width: int,
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    with served(site) as address:
        for page in ("index", "how-it-works", "api", "benchmarks"):
            tab.goto(f"{address}/{page}.html", wait_until="load")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, page
            dark = tab.evaluate("getComputedStyle(document.body).getPropertyValue('color-scheme')")
            assert dark == scheme, page
    context.close()
    assert not faults
    assert asked and not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
