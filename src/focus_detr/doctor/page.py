"""What was found of a data set, as one file of HTML with plots and pictures, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from focus_detr.data.doctor import Examination, Example, Finding
from focus_detr.data.doctor.examine import SEVERITIES, grouped
from focus_detr.doctor.plots import figures
from focus_detr.errors import FocusDetrError
from focus_detr.explaining.html import Markup, data_uri, escaped, html_page, paragraphs
from focus_detr.explaining.recall_page import square_crop
from focus_detr.images.reading import read_image
from focus_detr.printable import counted, percent

_CROPS = 12
"""Pictures of a kind of finding and a split."""
_ALL_CROPS = 240
_LINES = 40
_CELL = 240
_ACCENT = (230, 57, 70)


def doctor_html(found: Examination) -> str:
    """A page that opens from disk: counts, plots, and each kind of finding with files, fixes and crops."""
    notes = [f"The split {split} cannot be read: {error}" for split, error in found.refused.items()]
    counts = {severity: found.count(severity) for severity in SEVERITIES}
    said = ", ".join(counted(count, severity) for severity, count in counts.items())
    return html_page(
        "doctor",
        f"Doctor: {Path(found.name).name or found.name}",
        {
            "made_of": f"{found.name}: {said}.",
            "notes": paragraphs(notes),
            "splits": _splits(found),
            "plots": Markup("".join(_figure(caption, image) for caption, image in figures(found))),
            "findings": _findings(found.findings),
        },
        {},
    )


def _splits(found: Examination) -> Markup:
    rows = []
    for each in found.to_dict()["splits"]:
        covered = "" if each["covered"] is None else percent(each["covered"])
        cells = (each["split"], each["images"], sum(each["objects"].values()), covered)
        rows.append("".join(f"<td>{escaped(str(cell))}</td>" for cell in cells))
    return Markup("".join(f"<tr>{row}</tr>" for row in rows))


def _figure(caption: str, image: Image.Image) -> str:
    source = data_uri(image, 1400, 90)
    return f'<figure class="plot"><img src="{source}" alt="{escaped(caption)}"></figure>'


def _findings(findings: Sequence[Finding]) -> Markup:
    left = _ALL_CROPS
    parts = []
    for (severity, kind), group in grouped(findings).items():
        crops: list[str] = []
        for each in group:
            crops += _crops(each.examples[: min(_CROPS, left - len(crops))])
        left -= len(crops)
        lines = [_line(each) for each in group[:_LINES]]
        if len(group) > _LINES:
            lines.append(f"<li>and {len(group) - _LINES} more, which the JSON has</li>")
        mended = " · --fix mends it" if any(each.mended for each in group) else ""
        count = counted(len(group), "finding")
        opened = " open" if severity != "note" else ""
        parts.append(
            f'<details class="finding {severity}" data-severity="{severity}"{opened}>'
            f"<summary><strong>{severity}</strong> {escaped(kind)} "
            f'<span class="muted">{count}{mended}</span></summary>'
            f"<ul>{''.join(lines)}</ul>"
            + (f'<ul class="crops">{"".join(crops)}</ul>' if crops else "")
            + "</details>"
        )
    return Markup("\n".join(parts) or "<p>Nothing wrong was found.</p>")


def _line(each: Finding) -> str:
    split = f"{each.split}: " if each.split else ""
    return (
        f"<li>{escaped(split + each.message)}. <em>{escaped(each.fix)}</em>"
        f'<div class="muted">{escaped(each.file)}</div></li>'
    )


def _crops(examples: Sequence[Example]) -> list[str]:
    drawn = []
    for each in examples:
        try:
            image = read_image(each.path)
        except FocusDetrError:  # what cannot be read is said in words
            continue
        if each.box_xyxy is not None:
            image = square_crop(image, each.box_xyxy, _ACCENT)
        text = escaped(" · ".join(filter(None, (each.caption, each.path.name))))
        drawn.append(
            f'<li><img src="{data_uri(image, _CELL)}" alt="{text}" loading="lazy">'
            f'<div class="muted">{text}</div></li>'
        )
    return drawn
