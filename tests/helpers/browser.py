"""A browser for tests of pages, where there is one; importing `browser` makes it a fixture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

# Browsers by the name they have on different systems; CHROMIUM names another one.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


# Not for the session: while Playwright runs, no other test of the process can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, with a camera that shows a test picture."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here (CHROMIUM names one; on Debian: apt-get install chromium)")
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()
