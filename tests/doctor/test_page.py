"""The report is one file that stands alone, shows what was found, and takes no name for markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from focus_detr.data.doctor import Example, Finding, examine
from focus_detr.doctor import doctor_html, examine_data
from focus_detr.doctor.page import doctor_html as page
from helpers.browser import browser  # noqa: F401 (a fixture)
from helpers.doctor_data import Healthy
from helpers.doctor_faults import FAULTS
from helpers.explained import small_predictor

NASTY = "</details><script>alert(1)</script>\"'&\x1b[2J"


def test_findings_are_shown_with_crops_files_and_fixes(tmp_path: Path) -> None:
    data = Healthy(tmp_path)
    FAULTS["nearly-doubled-box"][1](data)
    path = data.picture("val", 0)
    path.write_bytes(path.read_bytes()[:-200])
    text = doctor_html(examine_data(tmp_path, size=(90, 120)))
    assert text.index("unreadable-image") < text.index("nearly-doubled-box")
    assert "val0.png" in text and "Keep one of each" in text and "--fix mends it" in text
    # A crop of the box, and three plots.
    assert text.count("data:image/jpeg;base64,") == 4
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)


def test_a_healthy_data_set_has_plots_and_no_finding(tmp_path: Path) -> None:
    text = page(examine(Healthy(tmp_path).write()))
    assert "Nothing wrong was found" in text and text.count("<img") == 2


def test_names_are_never_markup(tmp_path: Path) -> None:
    found = examine(Healthy(tmp_path).write())
    picture = found.datasets["train"].records[0].path
    found.findings = [
        Finding(NASTY, "error", NASTY, NASTY, NASTY, NASTY, examples=(Example(picture, None, NASTY),))
    ]
    found.name = NASTY
    for dataset in found.datasets.values():
        dataset.class_names = [f"$x_1$ {NASTY}", "_dog"]
    text = page(found)
    assert "<script>alert" not in text and "\x1b" not in text
    assert text.count("<details") == text.count("</details>") == 1


def test_of_thousands_of_findings_the_page_shows_some_and_says_so(tmp_path: Path) -> None:
    found = examine(Healthy(tmp_path).write())
    picture = found.datasets["train"].records[0].path
    one = Finding(
        "kind", "warning", "file", "message", "fix", examples=(Example(picture, (1, 1, 9, 9)),) * 50
    )
    found.findings = [replace(one, file=f"file {number}") for number in range(500)]
    text = page(found)
    assert "and 460 more" in text and text.count("<img") <= 242
    assert len(text) < 4_000_000


def test_what_a_model_says_of_budgets_and_labels_is_in_the_report(tmp_path: Path) -> None:
    root = Healthy(tmp_path, {"train": 2}).write()
    found = examine_data(root, predictor=small_predictor())
    assert found.facts["recall"]["train"]["images"] == 2
    assert "the model" not in found.facts
    assert doctor_html(found).count('class="plot"') == 3
    dense = examine_data(root, predictor=small_predictor(token_policy="dense"))
    assert "recall" not in dense.facts and "all tokens" in dense.facts["recall_not_measured"]


def test_the_page_opens_from_disk_and_hides_what_is_not_ticked(
    tmp_path: Path,
    browser: Any,  # noqa: F811
) -> None:
    FAULTS["nearly-doubled-box"][1](Healthy(tmp_path / "data"))
    file = tmp_path / "report.html"
    file.write_text(page(examine(tmp_path / "data")), encoding="utf-8")
    tab = browser.new_page()
    errors: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto(file.as_uri())
    finding = tab.locator("details.warning")
    assert finding.is_visible()
    assert tab.evaluate(
        "[...document.images].every((image) => image.loading === 'lazy' || image.naturalWidth > 0)"
    )
    tab.get_by_label("warnings").uncheck()
    assert not finding.is_visible() and errors == []
    tab.close()
