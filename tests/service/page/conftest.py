"""The page of a fake service in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.browser import browser  # noqa: F401
from helpers.fake_service import FakeService, fake_service
from helpers.page import visit


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture(scope="module")
def window(browser: Any) -> Iterator[Any]:  # noqa: F811
    """One tab for all tests of a file: another for each would take longer than most of them.

    What a page keeps goes with its address, and each test has a service of its own.
    """
    with browser.new_context(accept_downloads=True) as context:
        tab = context.new_page()
        tab.set_default_timeout(30_000)
        yield tab


@pytest.fixture
def tab(window: Any) -> Iterator[Any]:
    """A tab as it is at first, where breaches of policy and errors of scripts fail the test."""
    faults: list[str] = []

    def failed(error: Any) -> None:
        faults.append(str(error))

    def said(message: Any) -> None:
        if "Security Policy" in message.text:
            faults.append(message.text)

    window.set_viewport_size({"width": 1280, "height": 860})
    window.mouse.move(0, 0)  # or a box might come under it, and ask
    window.emulate_media(color_scheme="null", reduced_motion="null")
    window.on("pageerror", failed)
    window.on("console", said)
    yield window
    window.goto("about:blank")
    window.unroute_all()
    window.remove_listener("pageerror", failed)
    window.remove_listener("console", said)
    assert not faults


@pytest.fixture
def page(tab: Any, service: FakeService) -> Any:
    """The page of the fake service."""
    visit(tab, service)
    return tab
