"""Pictures on their way to the service and into files, with a service that is wrong on demand."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.fake_service import EXAMPLES, FakeService
from helpers.page import PICTURE, choose, expect_boxes, expect_figure, figure, saved, slide, wait_until


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


def test_a_picture_says_where_it_comes_from(page: Any) -> None:
    page.click(".example >> nth=0")
    expect_boxes(page, 5)
    assert page.inner_text("#credit") == "BCCD, MIT licence"
    choose(page)
    expect_boxes(page, 5)
    assert page.inner_text("#credit") == ""


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
    wait_until(page, lambda: len(service.sizes) >= 4)
    slide(page, ".pane-budget input", 0.6)
    expect_figure(page, "kept", "60 %")
    page.click("#compare")
    expect_boxes(page, 5, pane=1)
    page.click("#stop")
    page.wait_for_selector("#stop", state="hidden")
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
    choose(page)
    expect_boxes(page, 5)
    assert page.inner_text("#alert") == ""


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


def test_of_what_the_server_cannot_read_a_copy_as_jpeg_is_sent(page: Any, service: FakeService) -> None:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><path d="M0 0h30v60"/></svg>'
    choose(page, {"name": "drawing.svg", "mimeType": "image/svg+xml", "buffer": drawing})
    page.wait_for_selector(".pane-notice .notice")
    assert "cannot be read" in page.inner_text(".pane-notice")
    assert "not an image of a known format. A copy" in page.inner_text(".pane-notice")
    assert page.locator("[data-save]:disabled").count() == 4  # there is nothing to save
    page.click("text=Send a copy as JPEG")
    expect_boxes(page, 5)
    assert set(service.sizes) == {(90, 60)}  # once more where a box comes under the pointer
    assert page.title().startswith("drawing.jpg")
    assert page.locator("[data-save]:disabled").count() == 0


def test_of_a_picture_too_large_a_smaller_copy_is_sent(page: Any, service: FakeService) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4000, 1000), "gray").save(stream, "JPEG")
    service.refuse(413, "too_large", "More than 3 megapixels.")
    choose(page, {"name": "wide.jpg", "mimeType": "image/jpeg", "buffer": stream.getvalue()})
    page.wait_for_selector(".pane-notice .notice")
    assert "too large" in page.inner_text(".pane-notice")
    page.click("text=Send a smaller copy")
    expect_boxes(page, 5)
    assert set(service.sizes) == {(2048, 512)} and page.inner_text(".pane-notice") == ""


def test_a_busy_server_is_asked_again_after_the_time_it_says(page: Any, service: FakeService) -> None:
    service.refuse(429, "busy", "Too many questions.", Retry_After="1")
    choose(page)
    page.wait_for_selector(".pane-notice:has-text('busy'):has-text('Trying again in 1 s')")
    expect_boxes(page, 5)
    assert len(service.asked) == 2 and page.inner_text(".pane-notice") == ""


def test_a_server_that_stays_busy_is_left_alone(page: Any, service: FakeService) -> None:
    service.refuse(429, "busy", "Too many questions.", times=9, Retry_After="0")
    page.evaluate("() => { const real = setInterval; window.setInterval = (tick) => real(tick, 20) }")
    choose(page)
    page.wait_for_selector(".pane-notice .notice:not(:has(.small))")
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
