"""The page in a headless browser, against a service that is wrong on demand."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from focus_detr.pictures.palette import class_color
from focus_detr.structures.masks import Mask
from helpers.fake_service import EXAMPLES, PAGE, FakeService, fake_service, model

PICTURE = EXAMPLES / "BloodImage_00007.jpg"
FOUND = ".box:not([hidden])"


def choose(page: Any, file: Path | dict[str, Any] = PICTURE) -> None:
    page.set_input_files("#file", str(file) if isinstance(file, Path) else file)


def expect_boxes(page: Any, number: int, pane: int = 0) -> None:
    page.wait_for_function(
        "([selector, pane, number]) => document.querySelectorAll('.pane')[pane]"
        "?.querySelectorAll(selector).length === number && !document.querySelector('[aria-busy]')",
        arg=[FOUND, pane, number],
    )


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
    with page.expect_download() as download:
        page.click(f'[data-save="{kind}"]')
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_a_chosen_picture_gets_its_boxes_and_figures(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    assert (figure(page, "boxes"), figure(page, "kept"), figure(page, "time")) == ("5", "30 %", "30 ms")
    assert page.locator("#list tr").count() == 5
    assert "5 objects: 3 RBC" in page.inner_text("#live")
    (query,) = service.asked
    assert query["model"] == "cells" and "budget" not in query and "where" not in query
    frame, box = page.locator(".picture").bounding_box(), page.locator(".box").first.bounding_box()
    assert (box["x"] - frame["x"]) / frame["width"] == pytest.approx(0.30, abs=0.01)
    assert (box["y"] + box["height"] - frame["y"]) / frame["height"] == pytest.approx(0.62, abs=0.01)


def test_an_example_is_one_click_away(page: Any) -> None:
    page.click(".example >> nth=1")
    expect_boxes(page, 5)
    assert page.locator(".example").count() == len(list(EXAMPLES.glob("*.jpg")))


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(page: Any, event: str) -> None:
    page.evaluate(
        """async ([address, kind]) => {
            const blob = await (await fetch(address)).blob();
            const carried = new DataTransfer();
            carried.items.add(new File([blob], "mine.jpg", { type: "image/jpeg" }));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(kind === "drop"
                ? new DragEvent("drop", { ...options, dataTransfer: carried })
                : new ClipboardEvent("paste", { ...options, clipboardData: carried }));
        }""",
        [f"/examples/{PICTURE.name}", event],
    )
    expect_boxes(page, 5)
    assert page.title().startswith("mine.jpg")


def test_the_camera_gives_a_picture(page: Any, service: FakeService) -> None:
    page.click("#start-camera")
    page.click("#camera-take:not([disabled])")
    expect_boxes(page, 5)
    assert not page.locator("#camera-dialog").is_visible()
    assert len(service.sizes) == 1


def test_the_camera_can_be_watched(page: Any, service: FakeService) -> None:
    page.click("#start-camera")
    page.click("#camera-live:not([disabled])")
    expect_boxes(page, 5)
    while len(service.sizes) < 4:
        page.wait_for_timeout(50)
    slide(page, ".pane-budget input", 0.6)
    page.wait_for_function("() => document.querySelector('[data-figure=kept]').textContent === '60 %'")
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    page.click("#stop")
    page.wait_for_selector("#stop", state="hidden")
    page.wait_for_timeout(300)
    asked = len(service.asked)
    page.wait_for_timeout(500)
    assert len(service.asked) == asked
    assert page.inner_text("#live") == ""  # nobody could listen to so many


def test_a_camera_whose_server_goes_away_stops(page: Any, service: FakeService) -> None:
    page.click("#start-camera")
    page.click("#camera-live:not([disabled])")
    expect_boxes(page, 5)
    service.refuse(503, "not_ready", "Shutting down.")
    page.wait_for_selector("#alert .notice")
    page.wait_for_selector("#stop", state="hidden")


def test_the_threshold_acts_without_asking_again(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    slide(page, "#threshold", 0.2)
    expect_boxes(page, 6)
    slide(page, "#threshold", 0.9)
    expect_boxes(page, 2)
    assert page.locator("#list tr").count() == 2 and figure(page, "boxes") == "2"
    assert len(service.asked) == 1


def test_the_budget_asks_again_once_it_rests_and_the_last_answer_wins(
    page: Any, service: FakeService
) -> None:
    choose(page)
    expect_boxes(page, 5)
    service.delays = [1.0]
    slide(page, ".pane-budget input", 0.9, 0.8)
    page.wait_for_timeout(400)  # now asked, and being answered slowly
    slide(page, ".pane-budget input", 0.3, 0.1)
    expect_boxes(page, 3)
    assert [query.get("budget") for query in service.asked] == [None, "0.8", "0.1"]
    page.wait_for_timeout(1000)
    assert figure(page, "kept") == "10 %" and figure(page, "boxes") == "3"
    page.click("text=reset")
    expect_boxes(page, 5)
    assert "budget" not in service.asked[-1]


def test_a_model_with_a_rule_chooses_its_budget_where_it_is_told_to(browser: Any) -> None:
    with fake_service() as service, browser.new_context() as context:
        budget = {"accepted": True, "auto": True, "default": None, "smallest": 0.05}
        service.models = [model("cells", default=True, budget=budget), model("dots")]
        tab = context.new_page()
        tab.goto(service.address)
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


def test_where_only_some_budgets_can_be_had_the_slider_walks_through_them(browser: Any) -> None:
    with fake_service() as service, browser.new_context() as context:
        budget = {"accepted": True, "default": None, "smallest": 0.1, "choices": [0.1, 0.6, 1]}
        service.models = [model("exported", default=True, budget=budget)]
        tab = context.new_page()
        tab.goto(service.address)
        choose(tab)
        expect_boxes(tab, 5)
        assert tab.input_value(".pane-budget input") == "0"  # nearest to the 0.3 that it keeps by itself
        slide(tab, ".pane-budget input", 1)
        tab.wait_for_function("() => document.querySelector('[data-figure=kept]').textContent === '60 %'")
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


def test_of_many_classes_those_found_are_listed(browser: Any) -> None:
    with fake_service() as service:
        names = ["Platelets", "RBC", "WBC", *(f"class {number}" for number in range(77))]
        service.models = [model("coco", default=True, classes=names)]
        with browser.new_context() as context:
            tab = context.new_page()
            tab.goto(service.address)
            choose(tab)
            expect_boxes(tab, 5)
            assert tab.locator(".chip").count() == 3


def test_the_heat_map_is_asked_for_when_wanted_and_hidden_again(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    assert page.locator(".heat").is_hidden()
    page.check("#heat", force=True)
    page.wait_for_selector(".heat:not([hidden])")
    assert [query.get("heatmap") for query in service.asked] == [None, "true"]
    bottom = "(canvas) => [...canvas.getContext('2d').getImageData(16, canvas.height - 1, 1, 1).data]"
    red, green, blue, alpha = page.eval_on_selector(".heat", bottom)
    assert red > 240 and green > 200 and red > blue and 0 < alpha < 255  # inferno's bright end, see-through
    page.uncheck("#heat", force=True)
    page.wait_for_selector(".heat", state="hidden")
    assert len(service.asked) == 2


def test_a_model_without_heat_maps_offers_none(browser: Any) -> None:
    with fake_service() as service:
        service.models = [model("exported", default=True, heatmap=False, budget={"accepted": False})]
        with browser.new_context() as context:
            tab = context.new_page()
            tab.goto(service.address)
            choose(tab)
            expect_boxes(tab, 5)
            assert tab.locator("#heat-row").is_hidden() and tab.locator(".pane-budget").is_hidden()


def test_masks_are_drawn_in_their_objects_and_follow_the_threshold(browser: Any) -> None:
    with fake_service() as service:
        service.models = [model("masked", default=True)]
        with browser.new_context() as context:
            tab = context.new_page()
            tab.goto(service.address)
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


def test_a_picture_says_where_it_comes_from(page: Any) -> None:
    page.click(".example >> nth=0")
    expect_boxes(page, 5)
    assert page.inner_text("#credit") == "BCCD, MIT licence"
    choose(page)
    expect_boxes(page, 5)
    assert page.inner_text("#credit") == ""


def test_two_models_are_asked_one_after_the_other(page: Any, service: FakeService) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    assert [query["model"] for query in service.asked] == ["cells", "dots"]


def test_labels_are_saved_as_they_are_shown(page: Any) -> None:
    choose(page)
    expect_boxes(page, 5)
    page.click('.chip[data-name="RBC"]')
    expect_boxes(page, 2)
    width, height = Image.open(PICTURE).size

    name, content = saved(page, "json")
    objects = json.loads(content)["objects"]
    assert name == "BloodImage_00007.json" and [each["name"] for each in objects] == ["WBC", "Platelets"]
    assert objects[0]["box_xyxy"] == pytest.approx([0.30 * width, 0.30 * height, 0.55 * width, 0.62 * height])

    _, content = saved(page, "coco")
    coco = json.loads(content)
    assert coco["images"] == [{"id": 1, "file_name": PICTURE.name, "width": width, "height": height}]
    assert [each["name"] for each in coco["categories"]] == ["Platelets", "RBC", "WBC"]
    assert coco["annotations"][0]["bbox"] == pytest.approx(
        [0.3 * width, 0.3 * height, 0.25 * width, 0.32 * height]
    )

    name, content = saved(page, "yolo")
    assert name == "BloodImage_00007-yolo.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        rows = archive.read("labels/BloodImage_00007.txt").decode().splitlines()
        assert rows == ["2 0.425000 0.460000 0.250000 0.320000", "0 0.120000 0.760000 0.080000 0.120000"]
        assert archive.read("classes.txt") == b"Platelets\nRBC\nWBC\n"
        assert archive.read(f"images/{PICTURE.name}") == PICTURE.read_bytes()


def test_a_name_with_a_path_in_it_leaves_no_folder(page: Any) -> None:
    files = page.evaluate(
        """async () => {
            const { asYolo } = await import("./formats.js");
            const picture = { name: "../up/a.jpg", width: 10, height: 10, blob: new Blob(["x"]) };
            const { name, blob } = await asYolo(picture, {}, [{ label: 0, box: [1, 1, 1.000004, 5] }], ["a"]);
            return [name, [...new Uint8Array(await blob.arrayBuffer())]];
        }"""
    )
    assert files[0] == ".._up_a-yolo.zip"
    with zipfile.ZipFile(io.BytesIO(bytes(files[1]))) as archive:
        assert archive.namelist()[2:] == ["labels/.._up_a.txt", "images/.._up_a.jpg"]
        assert archive.read("labels/.._up_a.txt") == b"0 0.100000 0.300000 0.000020 0.400000\n"


def test_the_saved_yolo_folder_is_a_data_set(page: Any, tmp_path: Path) -> None:
    from focus_detr.data import load_dataset

    choose(page)
    expect_boxes(page, 5)
    _, content = saved(page, "yolo")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path)
    dataset = load_dataset(tmp_path, split="train")
    assert len(dataset) == 1 and dataset.class_counts() == {"Platelets": 1, "RBC": 3, "WBC": 1}


def test_the_picture_is_saved_with_its_boxes(page: Any) -> None:
    choose(page)
    expect_boxes(page, 5)
    name, content = saved(page, "picture")
    image = Image.open(io.BytesIO(content)).convert("RGB")
    original = Image.open(PICTURE)
    assert name == "BloodImage_00007-boxes.png" and image.size == original.size
    x, y = round(0.30 * image.width), round(0.5 * image.height)  # the left side of the box of a WBC
    assert image.getpixel((x, y)) == pytest.approx((255, 183, 3), abs=3)
    assert image.getpixel((5, 5)) == pytest.approx(original.getpixel((5, 5)), abs=6)


def test_what_is_no_picture_is_said_and_the_last_one_stays(page: Any, service: FakeService) -> None:
    choose(page, {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture at all"})
    page.wait_for_selector("#refused .notice")
    assert "notes.txt is not a picture" in page.inner_text("#refused")
    choose(page)
    expect_boxes(page, 5)
    assert page.inner_text("#refused") == ""
    choose(page, {"name": "notes.txt", "mimeType": "image/png", "buffer": b"no picture either"})
    page.wait_for_selector("#refused .notice")
    expect_boxes(page, 5)
    assert len(service.asked) == 1


def test_what_the_server_cannot_read_is_said(page: Any, service: FakeService) -> None:
    service.refuse(415, "unsupported_picture", "This format is not read here.")
    choose(page)
    page.wait_for_selector(".pane-notice .notice")
    assert "cannot read this picture" in page.inner_text(".pane-notice")
    assert "This format is not read here." in page.inner_text(".pane-notice")


def test_of_a_picture_too_large_a_smaller_copy_is_sent(page: Any, service: FakeService) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4000, 1000), "gray").save(stream, "JPEG")
    service.refuse(413, "too_large", "More than 3 megapixels.")
    choose(page, {"name": "wide.jpg", "mimeType": "image/jpeg", "buffer": stream.getvalue()})
    page.wait_for_selector(".pane-notice .notice")
    assert "too large" in page.inner_text(".pane-notice")
    page.click("text=Send a smaller copy")
    expect_boxes(page, 5)
    assert service.sizes == [(2048, 512)] and page.inner_text(".pane-notice") == ""


def test_a_busy_server_is_asked_again_after_the_time_it_says(page: Any, service: FakeService) -> None:
    service.refuse(429, "busy", "Too many questions.", Retry_After="1")
    choose(page)
    page.wait_for_selector(".pane-notice:has-text('busy'):has-text('Trying again in 1 s')")
    expect_boxes(page, 5)
    assert len(service.asked) == 2 and page.inner_text(".pane-notice") == ""


def test_a_server_that_stays_busy_is_left_alone(page: Any, service: FakeService) -> None:
    service.refuse(429, "busy", "Too many questions.", times=9, Retry_After="0")
    choose(page)
    page.wait_for_selector(".pane-notice .notice:not(:has(.small))", timeout=20_000)
    assert len(service.asked) == 5
    service.refusals.clear()
    page.click("text=Try again")
    expect_boxes(page, 5)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(503, "not_ready", "not ready"), (504, "timeout", "too long"), (500, "internal", "request fake")],
)
def test_other_errors_can_be_tried_again(
    page: Any, service: FakeService, status: int, code: str, words: str
) -> None:
    service.refuse(status, code, "Something.")
    choose(page)
    page.wait_for_selector(".pane-notice .notice")
    assert words in page.inner_text(".pane-notice")
    page.click("text=Try again")
    expect_boxes(page, 5)


def test_a_refused_value_is_not_tried_again(page: Any, service: FakeService) -> None:
    service.refuse(422, "unusable", "budget=7: must lie in [0.05, 1].")
    choose(page)
    page.wait_for_selector(".pane-notice .notice")
    assert "must lie in" in page.inner_text(".pane-notice")
    assert page.locator(".pane-notice button").count() == 0


def test_a_server_that_is_gone_is_said_and_the_picture_kept(page: Any) -> None:
    page.route("**/v1/detect*", lambda route: route.abort("connectionrefused"))
    choose(page)
    page.wait_for_selector(".pane-notice .notice")
    assert "does not answer" in page.inner_text(".pane-notice")
    page.unroute("**/v1/detect*")
    page.click("text=Try again")
    expect_boxes(page, 5)


def test_a_page_whose_server_is_gone_at_first_begins_when_it_is_back(page: Any, service: FakeService) -> None:
    service.refuse(503, "not_ready", "The models are being loaded.")
    page.reload()
    page.wait_for_selector("#alert .notice")
    choose(page)  # waits for the models, too
    page.click("text=Try again")
    expect_boxes(page, 5)


def test_a_key_is_asked_for_and_sent(page: Any, service: FakeService) -> None:
    service.key = "secret"
    page.reload()
    page.click("text=Enter the key")
    page.fill("#key", "secret")
    page.click("text=Use it")
    page.wait_for_selector(".example")
    choose(page)
    expect_boxes(page, 5)


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


def test_the_first_view_is_small(page: Any, service: FakeService) -> None:
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.reload(wait_until="networkidle")
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
