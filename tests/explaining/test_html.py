"""The pages stand alone: nothing from elsewhere, and no name inside them is taken for markup."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from focus_detr.explaining import explain_picture
from focus_detr.explaining.html import embedded
from focus_detr.explaining.picture_html import explanation_html
from focus_detr.explaining.recall_html import recall_html
from helpers.explained import data_explanation
from helpers.explained import small_predictor as predictor
from helpers.pictures import noise

NASTY = "</script><img src=x onerror=alert(1)>\"'&\x1b[2J"


class Page(HTMLParser):
    """Tags with their attributes, and what stands in scripts, styles and elsewhere."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.contents, self._open = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = len(self.tags) - 1

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open is not None:
            self.contents[self._open] = self.contents.get(self._open, "") + data

    def inside(self, tag):
        return [self.contents.get(i, "") for i, (name, _) in enumerate(self.tags) if name == tag]

    @property
    def data(self):
        (text,) = [self.contents[i] for i, (_, given) in enumerate(self.tags) if given.get("id") == "data"]
        return json.loads(text)


@pytest.fixture(scope="module")
def explained():
    image = noise(120, 96)
    return explain_picture(predictor(), image, "a.png", budgets=[0.1, 1.0], threshold=0.0, runs=1)


@pytest.fixture(scope="module", params=["picture", "recall"])
def page(request, explained, tmp_path_factory):
    if request.param == "picture":
        nasty = replace(explained, name=NASTY, class_names=(NASTY,) * 3)
        return explanation_html(nasty)
    return recall_html(data_explanation(tmp_path_factory.mktemp("data"), NASTY))


def test_no_name_becomes_markup(page):
    tags = [tag for tag, _ in Page(page).tags]
    # The template's picture, if any; none of the names' own.
    assert tags.count("script") == 2 and tags.count("img") <= 1
    assert not any(name.startswith("on") for _, given in Page(page).tags for name in given)
    assert "\x1b" not in page


def test_names_arrive_as_they_are(page):
    data = Page(page).data
    names = [each["name"] for each in data.get("classes", []) or data["class"]]
    assert names and set(names) == {NASTY}


def test_nothing_is_fetched(page):
    for tag, given in Page(page).tags:
        assert not {"href", "srcset", "action"} & set(given), tag
        assert given.get("src", "data:").startswith("data:")
    style = "".join(Page(page).inside("style"))
    assert "url(" not in style and "@import" not in style
    script = Page(page).inside("script")[-1]
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|innerHTML|eval\(|document\.write", script)


def test_its_own_policy_admits_its_style_and_script_alone(page):
    parsed = Page(page)
    (policy,) = [each["content"] for _, each in parsed.tags if each.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for content in (parsed.inside("style")[0], parsed.inside("script")[-1]):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_pictures_have_a_text_and_controls_a_label(page):
    parsed = Page(page)
    assert all(given.get("alt") for tag, given in parsed.tags if tag == "img")
    labelled = {given.get("for") for tag, given in parsed.tags if tag == "label"}
    ranges = [given["id"] for tag, given in parsed.tags if given.get("type") == "range"]
    assert ranges == ["budget"] and set(ranges) <= labelled
    assert ("html", {"lang": "en"}) in parsed.tags
    assert any(given.get("name") == "viewport" for _, given in parsed.tags)


def test_a_page_holds_the_boxes_tokens_and_points_of_every_budget(explained):
    data = Page(explanation_html(explained)).data
    assert [view["budget"] for view in data["views"]] == [view.budget for view in explained.views]
    cells = sum(h * w for h, w in data["levels"])
    for shown, view in zip(data["views"], explained.views, strict=True):
        for drawn, layer in zip(shown["layers"], view.layers, strict=True):
            bits = np.ones(cells, bool)
            if drawn["bits"] is not None:
                packed = np.frombuffer(base64.b64decode(drawn["bits"]), np.uint8)
                bits = np.unpackbits(packed, count=cells).astype(bool)
            assert (bits == np.concatenate([level.flatten() for level in layer.kept])).all()
        for drawn, found in zip(shown["objects"], view.objects, strict=True):
            np.testing.assert_allclose(drawn["box"], found.box_xyxy, atol=0.06)
            weights = sum(weight for *_, weight in drawn["points"])
            assert weights == pytest.approx(1000, abs=70)
        assert shown["lost"] == view.lost
    scores = np.frombuffer(base64.b64decode(data["scores"]), np.uint8) / 255
    expected = np.concatenate([level.flatten() for level in explained.scores])
    np.testing.assert_allclose(scores, expected, atol=0.003)


def test_embedded_values_are_the_same_json():
    value = {"a": ["<b>&amp;", 1.5, None, float("nan")], "é": "\u2028"}
    text = embedded(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": ["<b>&amp;", 1.5, None, None], "é": "\u2028"}
