"""What the page shows of the answers, and to whom."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from focus_detr.pictures.palette import class_color
from focus_detr.structures.masks import Mask
from helpers.fake_service import PAGE, FakeService, model
from helpers.page import PICTURE, choose, expect_boxes, expect_figure, figure, saved, slide, visit, wait_until


def test_the_threshold_acts_without_asking_again(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    slide(page, "#threshold", 0.2)
    expect_boxes(page, 6)
    slide(page, "#threshold", 0.9)
    expect_boxes(page, 2)
    assert page.locator("#list tr").count() == 2 and figure(page, "boxes") == "2"
    assert len(service.asked) == 1


def test_the_threshold_is_the_models_own_until_it_is_moved(tab: Any, service: FakeService) -> None:
    service.models = [model("cells", default=True), model("dots", threshold=0.2)]
    visit(tab, service)
    choose(tab)
    expect_boxes(tab, 5)
    tab.select_option(".pane-model select", "dots")
    expect_boxes(tab, 6)
    slide(tab, "#threshold", 0.9)
    expect_boxes(tab, 2)
    tab.select_option(".pane-model select", "cells")
    expect_boxes(tab, 2)
    assert [query["model"] for query in service.asked] == ["cells", "dots", "cells"]


def test_a_class_has_its_own_threshold_until_it_is_moved(tab: Any, service: FakeService) -> None:
    service.models = [model("cells", default=True, class_thresholds={"RBC": 0.9, "Platelets": 0.2})]
    visit(tab, service)
    choose(tab)
    expect_boxes(tab, 4)
    assert [chip.rsplit(maxsplit=1) for chip in tab.locator("#classes .chip").all_inner_texts()] == [
        ["Platelets", "2"],
        ["RBC", "1"],
        ["WBC", "1"],
    ]
    slide(tab, "#threshold", 0.9)
    expect_boxes(tab, 2)
    slide(tab, "#threshold", 0.5)
    expect_boxes(tab, 5)


def test_the_budget_asks_again_once_it_rests_and_the_last_answer_wins(
    page: Any, service: FakeService
) -> None:
    choose(page)
    expect_boxes(page, 5)
    service.delays = [1.0]
    slide(page, ".pane-budget input", 0.9, 0.8)
    wait_until(page, lambda: len(service.asked) == 2)  # and is being answered slowly
    slide(page, ".pane-budget input", 0.3, 0.1)
    expect_boxes(page, 3)
    assert [query.get("budget") for query in service.asked] == [None, "0.8", "0.1"]
    page.wait_for_timeout(1000)
    assert figure(page, "kept") == "10 %" and figure(page, "boxes") == "3"
    page.click("text=reset")
    expect_boxes(page, 5)
    assert "budget" not in service.asked[-1]


def test_a_model_with_a_rule_chooses_its_budget_where_it_is_told_to(tab: Any, service: FakeService) -> None:
    budget = {"accepted": True, "auto": True, "default": None, "smallest": 0.05}
    service.models = [model("cells", default=True, budget=budget), model("dots")]
    visit(tab, service)
    choose(tab)
    expect_boxes(tab, 5)
    tab.click(".pane-budget .auto")
    expect_boxes(tab, 3)
    assert service.asked[-1]["budget"] == "auto"
    assert tab.inner_text(".pane-budget output") == "15 %"
    assert tab.input_value(".pane-budget input") == "0.15"
    assert tab.get_attribute(".pane-budget .auto", "aria-pressed") == "true"
    name, content = saved(tab, "json")
    assert json.loads(content)["budget"] == 0.15
    slide(tab, ".pane-budget input", 0.5)
    expect_boxes(tab, 5)
    assert service.asked[-1]["budget"] == "0.5"
    assert tab.get_attribute(".pane-budget .auto", "aria-pressed") == "false"
    tab.click(".pane-budget .auto")
    expect_boxes(tab, 3)
    tab.click(".pane-budget .auto")  # once more: no longer
    expect_boxes(tab, 5)
    assert "budget" not in service.asked[-1]
    tab.select_option(".pane-model select", "dots")
    expect_boxes(tab, 5)
    assert tab.locator(".pane-budget .auto").is_hidden()


def test_of_budgets_that_can_be_had_the_slider_walks_through_them(tab: Any, service: FakeService) -> None:
    budget = {"accepted": True, "default": None, "smallest": 0.1, "choices": [0.1, 0.6, 1]}
    service.models = [model("exported", default=True, budget=budget)]
    visit(tab, service)
    choose(tab)
    expect_boxes(tab, 5)
    assert tab.input_value(".pane-budget input") == "0"  # nearest to the 0.3 that it keeps by itself
    slide(tab, ".pane-budget input", 1)
    expect_figure(tab, "kept", "60 %")
    tab.click("#compare")
    expect_boxes(tab, 3, pane=1)
    assert service.asked[-1]["budget"] == "0.1"  # nearest to half of it


def test_classes_are_filtered_and_counted(page: Any) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.click('.chip[data-name="RBC"]')
    expect_boxes(page, 2)
    chip = page.locator('.chip[data-name="RBC"]')
    assert chip.get_attribute("aria-pressed") == "false" and chip.inner_text().endswith("3")
    page.click('.chip[data-name="RBC"]')
    expect_boxes(page, 5)


def test_of_many_classes_those_found_are_listed(tab: Any, service: FakeService) -> None:
    names = ["Platelets", "RBC", "WBC", *(f"class {number}" for number in range(77))]
    service.models = [model("coco", default=True, classes=names)]
    visit(tab, service)
    choose(tab)
    expect_boxes(tab, 5)
    assert tab.locator(".chip").count() == 3
    said = tab.evaluate(
        "async (found) => (await import('./words.js')).summary(found)",
        [{"class": f"class {rank}"} for rank in range(1, 13) for _ in range(rank)],
    )
    assert said.startswith("78 objects: 12 class 12, 11 class 11, ")
    assert said.endswith("5 class 5, 10 of other classes")


def test_the_heat_map_is_asked_for_when_wanted_and_hidden_again(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    assert page.locator(".heat").is_hidden()
    seen = "window.seen = document.querySelectorAll('.box:not([hidden])').length"
    decoding = "HTMLImageElement.prototype.decode"
    page.evaluate(
        f"() => {{ const real = {decoding}; {decoding} = function () {{ {seen}; return real.call(this) }} }}"
    )
    page.check("#heat", force=True)
    page.wait_for_selector(".heat:not([hidden])")
    assert page.evaluate("seen") == 5  # while it is decoded, what is below the threshold stays hidden
    assert [query.get("heatmap") for query in service.asked] == [None, "true"]
    bottom = "(canvas) => [...canvas.getContext('2d').getImageData(16, canvas.height - 1, 1, 1).data]"
    red, green, blue, alpha = page.eval_on_selector(".heat", bottom)
    assert red > 240 and green > 200 and red > blue and 0 < alpha < 255  # inferno's bright end, see-through
    page.uncheck("#heat", force=True)
    page.wait_for_selector(".heat", state="hidden")
    assert len(service.asked) == 2


def test_a_model_without_heat_maps_offers_none(tab: Any, service: FakeService) -> None:
    service.models = [model("exported", default=True, heatmap=False, budget={"accepted": False})]
    visit(tab, service)
    choose(tab)
    expect_boxes(tab, 5)
    assert tab.locator("#heat-row").is_hidden() and tab.locator(".pane-budget").is_hidden()


def test_masks_are_drawn_in_their_objects_and_follow_the_threshold(tab: Any, service: FakeService) -> None:
    service.models = [model("masked", default=True)]
    visit(tab, service)
    choose(tab)
    expect_boxes(tab, 5)
    tab.wait_for_selector(".masks:not([hidden])")
    at = (
        "(canvas, places) => places.map(([x, y]) => [...canvas.getContext('2d').getImageData("
        "Math.round(x * canvas.width), Math.round(y * canvas.height), 1, 1).data])"
    )
    # The upper half of the first object, the lower one, outside, and the faintest object.
    places = [[0.4, 0.4], [0.4, 0.55], [0.95, 0.95], [0.12, 0.73]]
    upper, lower, outside, faint = tab.eval_on_selector(".masks", at, places)
    # Canvases keep colors times their opacity, in whole numbers.
    np.testing.assert_allclose(upper[:3], class_color(2), atol=2)
    assert 0 < upper[3] < 255
    assert not any(lower) and not any(outside) and faint[3]
    slide(tab, "#threshold", 0.6)
    expect_boxes(tab, 4)
    assert not any(tab.eval_on_selector(".masks", at, places)[3])

    annotation = json.loads(saved(tab, "coco")[1])["annotations"][0]
    original = np.asarray(Image.open(PICTURE).convert("RGB")).astype(int)
    height, width, _ = original.shape
    assert annotation["segmentation"] == json.loads(saved(tab, "json")[1])["objects"][0]["mask"]
    assert annotation["segmentation"]["size"] == [height, width]
    assert annotation["area"] == pytest.approx(annotation["bbox"][2] * annotation["bbox"][3] / 2, rel=0.02)
    drawn = np.asarray(Image.open(io.BytesIO(saved(tab, "picture")[1])).convert("RGB")).astype(int)
    shown, below, faintest = (
        np.abs(drawn - original)[round(y * height), round(x * width)].max()
        for x, y in (places[0], places[1], places[3])
    )
    assert shown > 30 and max(below, faintest) < 8


def test_run_lengths_are_read_as_they_were_written(page: Any) -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        bitmap = rng.random((70, 90)) < share
        mask = Mask.of_bitmap(bitmap).to_coco(bitmap.shape)
        script = "async (counts) => (await import('./masks.js')).runLengths(counts)"
        lengths = page.evaluate(script, mask["counts"])
        turns = np.repeat(np.arange(len(lengths)) % 2, lengths).astype(bool)
        np.testing.assert_array_equal(turns.reshape(90, 70).T, bitmap)


def painted(page: Any) -> int:
    """Pixels that show where a query looked."""
    return page.eval_on_selector(
        ".looked",
        "(canvas) => canvas.width ? canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.filter((value, index) => index % 4 === 3 && value).length : 0",
    )


def test_pointing_at_a_box_shows_where_its_query_looked(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.hover(".box >> nth=0")
    page.wait_for_function("() => document.querySelector('.looked').width > 0")
    assert painted(page) > 50
    assert page.locator("#list .looked-at").inner_text().startswith("WBC")
    page.hover(".box >> nth=1")
    page.mouse.move(2, 2)
    page.wait_for_function("() => document.querySelector('.looked').width === 0")
    assert [query.get("where") for query in service.asked] == [None, "true"]  # asked once for all boxes


def test_the_keyboard_walks_through_boxes_and_list(page: Any) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.locator(".box >> nth=0").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "RBC, 91 %"
    page.wait_for_selector(".box.looked-at[aria-label='RBC, 91 %']")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "WBC, 97 %"
    page.keyboard.press("Escape")
    assert page.locator(".looked-at").count() == 0
    page.locator(".list-name >> nth=0").focus()
    page.keyboard.press("End")
    page.wait_for_selector(".box.looked-at[aria-label='Platelets, 55 %']")
    assert page.locator(".box[tabindex='0']").count() == page.locator(".list-name[tabindex='0']").count() == 1


def test_two_budgets_stand_side_by_side(page: Any) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    page.locator(".pane").nth(1).locator("select").select_option("cells")
    slide(page, ".pane:nth-child(2) .pane-budget input", 0.1)
    expect_boxes(page, 3, pane=1)
    assert figure(page, "kept", 0) == "30 %" and figure(page, "kept", 1) == "10 %"
    assert "Both find 3 objects; A alone 2, B alone 0" in page.inner_text("#verdict")
    assert page.locator(".box.alone:not([hidden])").count() == 2
    page.click('[data-side="1"]')
    assert page.locator("#list tr").count() == 3
    assert page.locator('.chip[data-name="RBC"]').inner_text().endswith("2")
    page.click("#compare")
    assert page.locator(".pane").count() == 1 and page.locator("#list tr").count() == 5
    assert page.locator(".box.alone").count() == 0


def test_pointing_at_an_object_shows_it_in_both_panes(page: Any) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    page.locator(".pane").nth(1).locator(".box").first.hover()
    page.wait_for_function("() => document.querySelectorAll('.box.looked-at').length === 2")
    assert page.locator("#list .looked-at").count() == 1
    page.mouse.move(2, 2)
    page.wait_for_function("() => document.querySelectorAll('.looked-at').length === 0")


def test_two_models_are_asked_one_after_the_other(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    assert [query["model"] for query in service.asked] == ["cells", "dots"]


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    wider = "document.documentElement.scrollWidth > 360"
    assert not page.evaluate(wider)
    choose(page)
    expect_boxes(page, 5)
    assert not page.evaluate(wider)
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    assert not page.evaluate(wider)
    small = page.eval_on_selector_all(
        "button:not(.box, .link, .list-name), input[type=range], select",
        "(all) => all.filter((each) => each.offsetHeight && each.offsetHeight < 28).map((each) => each.id)",
    )
    assert small == []


CONTRAST = """() => {
  const numbers = (color) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, below) => [0, 1, 2].map((band) => top[band] * top[3] + below[band] * (1 - top[3]));
  const light = (color) => color.map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, band) => sum + value * [0.2126, 0.7152, 0.0722][band], 0);
  const ground = (element) => {
    if (!element) return numbers(getComputedStyle(document.body).backgroundColor).slice(0, 3);
    const own = numbers(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(":disabled, .unseen, .skip, template")) continue;
    const below = ground(element);
    const [a, b] = [light(over(numbers(getComputedStyle(element).color), below)), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${texts.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_readable_in_light_and_dark(page: Any, service: FakeService, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_selector(".example")
    assert page.evaluate(CONTRAST) == []
    choose(page)
    expect_boxes(page, 5)
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    page.click('.chip[data-name="WBC"]')
    service.refuse(503, "not_ready", "Something.")
    slide(page, ".pane-budget input", 0.9)
    page.wait_for_selector(".pane-notice .notice")
    assert page.evaluate(CONTRAST) == []


def test_every_control_has_a_name(page: Any) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    for role in ("button", "slider", "combobox", "checkbox", "table", "region"):
        for element in page.get_by_role(role).all():
            assert re.search(r'^- \S+ "[^"]+"|^- \S+ [^:\s]', element.aria_snapshot()), (
                element.aria_snapshot()
            )
    assert page.get_by_role("slider", name="Budget").count() == 2
    assert page.get_by_role("slider", name="Threshold").count() == 1
    assert page.get_by_role("table", name="Objects").get_by_role("row").count() == 6


def test_the_first_view_is_small(page: Any) -> None:
    page.wait_for_load_state("networkidle")
    sizes = page.evaluate("performance.getEntries().map((each) => each.encodedBodySize).filter(Boolean)")
    assert len(sizes) > 10 and sum(sizes) < 200_000


def test_classes_have_the_colors_that_drawn_pictures_have(page: Any) -> None:
    labels = list(range(90))
    colors = page.evaluate(
        "async (labels) => labels.map((await import('./palette.js')).classColor)",
        labels,
    )
    assert [tuple(color) for color in colors] == [class_color(label) for label in labels]


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for file in PAGE.iterdir():
        found = re.findall(r"https?://[\w./-]+", file.read_text(encoding="utf-8"))
        assert set(found) <= {"http://www.w3.org/2000/svg"}, file.name
