"""The page of a fake service in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.browser import browser  # noqa: F401
from helpers.fake_service import FakeService, fake_service


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def page(browser: Any, service: FakeService) -> Iterator[Any]:  # noqa: F811
    """The page of the fake service, where breaches of policy and errors of scripts fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(30_000)
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
    tab.goto(service.address)
    tab.wait_for_selector(".example")  # the last that it asks for by itself
    yield tab
    context.close()
    assert not faults
