"""What somebody does on the page of a service, and how a test waits for what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.fake_service import EXAMPLES, FakeService

PICTURE = EXAMPLES / "BloodImage_00007.jpg"
FOUND = ".box:not([hidden])"

# Its title and the address of what it shows, which no two pictures share, or what it says of a file refused.
_TAKEN = (
    "document.title + document.querySelector('.photo')?.src + document.querySelector('#refused').innerText"
)


def visit(page: Any, service: FakeService) -> None:
    page.goto(service.address)
    page.wait_for_selector(".example")  # the last that it asks for by itself


def choose(page: Any, file: Path | dict[str, Any] = PICTURE) -> None:
    """Choose a file, and wait until the page has taken it: until then the boxes are those of the last one."""
    before = page.evaluate(_TAKEN)
    page.set_input_files("#file", str(file) if isinstance(file, Path) else file)
    page.wait_for_function(f"(before) => {_TAKEN} !== before", arg=before)


def expect_boxes(page: Any, number: int, pane: int = 0) -> None:
    """Wait for so many boxes, and for every answer that the page waits for.

    Where there were as many before, and the page asks only after a while, wait for something else first.
    """
    page.wait_for_function(
        "([selector, pane, number]) => document.querySelectorAll('.pane')[pane]"
        "?.querySelectorAll(selector).length === number && !document.querySelector('[aria-busy]')",
        arg=[FOUND, pane, number],
    )


def expect_figure(page: Any, name: str, said: str) -> None:
    page.wait_for_function(
        "([name, said]) => document.querySelector(`[data-figure=${name}]`).textContent === said",
        arg=[name, said],
    )


def wait_until(page: Any, true: Callable[[], bool], seconds: float = 30) -> None:
    """Of what happens on the service's side, while the page goes on."""
    for _ in range(round(seconds / 0.02)):
        if true():
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"not within {seconds} s")


def slide(page: Any, selector: str, *values: float) -> None:
    """Move a slider through `values`, faster than anybody could."""
    page.eval_on_selector(
        selector,
        "(slider, values) => values.forEach((value) => { slider.value = value;"
        " slider.dispatchEvent(new Event('input', { bubbles: true })) })",
        list(values),
    )


def figure(page: Any, name: str, pane: int = 0) -> str:
    return page.locator(".pane").nth(pane).locator(f'[data-figure="{name}"]').inner_text()


def saved(page: Any, kind: str) -> tuple[str, bytes]:
    """Name and content of what a button of the downloads gives."""
    with page.expect_download() as download:
        page.click(f'[data-save="{kind}"]')
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()
