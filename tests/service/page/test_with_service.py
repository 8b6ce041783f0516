"""The page and the service speak of the same things."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi")

from helpers.services import file_of, live_service, small_predictor  # noqa: E402

KEY = "a-key-of-16-characters"


def sure_predictor() -> Any:
    """A model of random weights that is half sure of everything, rather than hardly."""
    predictor = small_predictor()
    for name, bias in predictor.model.named_parameters():
        if "class" in name and name.endswith("bias"):
            bias.data.zero_()
    return predictor


def test_the_page_works_with_the_service_itself(browser: Any) -> None:
    models = {"small": sure_predictor(), "other": sure_predictor()}
    with live_service(models) as service, browser.new_context() as context:
        tab = context.new_page()
        faults: list[str] = []
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        responses: list[Any] = []
        tab.on("response", lambda response: responses.append(response) if "/detect" in response.url else None)
        tab.goto(service.url)
        tab.wait_for_selector(".example")
        picture = {"name": "a.png", "mimeType": "image/png", "buffer": file_of()}
        tab.set_input_files("#file", picture)
        settled = "() => document.querySelector('.box') && !document.querySelector('[aria-busy]')"
        tab.wait_for_function(settled)
        first = responses[0].json()
        assert tab.locator(".box").count() == len(first["detections"]) > 0
        assert tab.inner_text('[data-figure="kept"]') == f"{100 * first['kept']:.0f} %"

        tab.check("#heat", force=True)
        tab.wait_for_selector(".heat:not([hidden])")
        tab.eval_on_selector(
            "#threshold", "(each) => { each.value = 0.05; each.dispatchEvent(new Event('input')) }"
        )
        tab.locator(".box").first.focus()
        tab.wait_for_function("() => document.querySelector('.looked').width > 0")
        tab.click("#compare")
        tab.wait_for_selector("#verdict:not([hidden])")
        assert responses[-1].json()["model"] == "other"
        assert not faults


def test_what_the_service_refuses_is_said(browser: Any) -> None:
    with live_service(max_megapixels=0.001) as service, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(service.url)
        tab.wait_for_selector(".example")
        tab.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": file_of()})
        tab.wait_for_selector(".pane-notice .notice:has-text('too large')")
        drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="30"></svg>'
        tab.set_input_files("#file", {"name": "a.svg", "mimeType": "image/svg+xml", "buffer": drawing})
        tab.wait_for_selector(".pane-notice .notice:has-text('cannot be read')")


def test_the_key_of_the_service_is_asked_for(browser: Any) -> None:
    with live_service(api_keys=(KEY,)) as service, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(service.url)
        tab.click("text=Enter the key")
        tab.fill("#key", KEY)
        tab.click("text=Use it")
        tab.wait_for_selector(".example")
