"""What `explain_data` found, as a page with a slider of budgets."""

from __future__ import annotations

from typing import Any

from focus_detr.explaining.html import data_uri, html_page, paragraphs
from focus_detr.explaining.recall import DataExplanation, DataObject, Group
from focus_detr.explaining.recall_page import crops

_CROPS = 60


def recall_html(explanation: DataExplanation) -> str:
    """One file: the share of objects kept at each budget by size and class, and crops of those first lost."""
    dataset = explanation.dataset
    notes = []
    if len(explanation.budgets) == 1:
        notes.append(
            f"The token policy {explanation.token_policy!r} takes no budget: its own is all there is to see."
        )
    if explanation.unreadable:
        notes.append(f"{len(explanation.unreadable)} pictures could not be read and are left out.")
    return html_page(
        "recall",
        f"What a budget keeps of {dataset.name.rstrip('/').rpartition('/')[2]}",
        {
            "made_of": f"{len(explanation.objects)} objects of split {dataset.split}; token policy "
            f"{explanation.token_policy}.",
            "notes": paragraphs(notes),
            "legend": "An object is kept where a layer works on a token whose centre lies in its box. Small "
            "is under 32 × 32 pixels, large from 96 × 96. No token at all: no centre lies in the box, "
            "whatever the budget.",
        },
        _data(explanation),
    )


def _data(explanation: DataExplanation) -> dict[str, Any]:
    lost = explanation.first_lost(_CROPS)
    reachable = [each for each in explanation.objects if each.reachable]
    return {
        "views": [
            {
                "budget": budget,
                "own": place == explanation.own,
                "lost": sum(not each.kept[place] for each in reachable),
            }
            for place, budget in enumerate(explanation.budgets)
        ],
        "reachable": len(reachable),
        "size": _groups(explanation.by_size(), explanation.by_size(last=True)),
        "class": _groups(explanation.by_class(), explanation.by_class(last=True)),
        "lost": [
            _lost(explanation, each, data_uri(crop, crop.width))
            for each, crop in zip(lost, crops(explanation, lost), strict=True)
        ],
    }


def _groups(first: list[Group], last: list[Group]) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "objects": group.objects,
            "unreachable": group.unreachable,
            "first": group.recall,
            "last": other.recall,
        }
        for group, other in zip(first, last, strict=True)
    ]


def _lost(explanation: DataExplanation, each: DataObject, image: str) -> dict[str, Any]:
    left, top, right, bottom = each.box_xyxy
    return {
        "name": explanation.dataset.class_names[each.label],
        "path": each.path.name,
        "width": round(right - left),
        "height": round(bottom - top),
        "kept": list(each.kept),
        "lost_at": explanation.lost_at(each),
        "image": image,
    }
