"""What `explain_picture` found, as one page of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from focus_detr.explaining.picture import Found, PictureExplanation, View
from focus_detr.inference.results import Detections
from focus_detr.pictures.boxes import draw_detections, text_font
from focus_detr.pictures.heatmap import kept_parts, score_parts
from focus_detr.pictures.overlays import lit
from focus_detr.pictures.pages import MUTED, PAPER, WIDTH, fitted, heading, row, stacked
from focus_detr.pictures.palette import CURVES, class_color
from focus_detr.printable import in_line
from focus_detr.structures.instances import Instances

_QUERIES = 8
_SMALLER = 3


def explanation_page(explanation: PictureExplanation) -> Image.Image:
    """Scores, tokens of each layer, where queries looked, and what smaller budgets lose; 1800 pixels wide."""
    own, notes = explanation.own, explanation.notes
    backdrop = fitted(explanation.image, 1200)
    detections = _detections(explanation, own.objects, backdrop)
    found = (draw_detections(backdrop, detections), f"objects found: {len(own.objects)}")
    title = (
        f"{in_line(explanation.name, 60)}: host {explanation.host}, token policy {explanation.token_policy}"
    )
    parts = [heading(title)]
    if "objects" in notes:
        parts.append(_remark(notes["objects"]))
    if explanation.scores is None:
        parts += [row([found[0]], [found[1]], 2), _remark(notes["scores"])]
    else:
        parts += score_parts(explanation.scores, backdrop, found)
    parts += _token_parts(explanation, backdrop)
    parts.append(heading("Where the last decoder layer looked for an object: size is weight, color is level"))
    if "samples" in notes:
        parts.append(_remark(notes["samples"]))
    elif own.objects:
        chosen = _chosen(own.objects)
        captions = [f"{explanation.class_names[each.label]} {each.score:.2f}" for each in chosen]
        parts.append(_levels(len(own.layers[0].kept)))
        parts.append(row([_query(backdrop, explanation, each) for each in chosen], captions, 4))
    parts.append(heading("What a smaller budget would lose"))
    parts += _smaller_parts(explanation, backdrop)
    return stacked(parts)


def _token_parts(explanation: PictureExplanation, backdrop: Image.Image) -> list[Image.Image]:
    layers, notes = explanation.own.layers, explanation.notes
    if "kept" in notes:
        parts = [heading("Tokens that each encoder layer works on"), _remark(notes["kept"])]
    else:
        parts = kept_parts([layer.kept for layer in layers], backdrop)
    if "fine" in notes:
        return [*parts, _remark(notes["fine"])]
    fine = [layer.fine for layer in layers if layer.fine is not None]
    captions = [
        f"layer {number}: {sum(int(level.sum()) for level in each):,} tokens"
        for number, each in enumerate(fine, start=1)
    ]
    title = "Fine-grained tokens, which attend to one another in each encoder layer"
    return [
        *parts,
        heading(title),
        row([lit(backdrop, each) for each in fine], captions, max(2, min(len(fine), 3))),
    ]


def _smaller_parts(explanation: PictureExplanation, backdrop: Image.Image) -> list[Image.Image]:
    own = explanation.own
    smaller = [view for view in explanation.views if view.budget < own.budget]
    if "budgets" in explanation.notes or not smaller:
        said = explanation.notes.get("budgets", "No smaller budget was looked at.")
        return [_remark(said)]
    places = np.linspace(0, len(smaller) - 1, min(_SMALLER, len(smaller))).round().astype(int)
    shown = [smaller[place] for place in places[::-1]]
    remark = (
        f"Its own budget, {own.budget:.2g}: {1000 * own.seconds:.0f} ms, {len(own.objects)} found. "
        "Boxes in white are lost, in color still found; dark is what the first layer does not work on."
    )
    captions = [
        f"budget {view.budget:.2g}: {len(view.lost)} of {len(own.objects)} lost, {1000 * view.seconds:.0f} ms"
        for view in shown
    ]
    return [_remark(remark), row([_losses(explanation, view, backdrop) for view in shown], captions, 3)]


def _losses(explanation: PictureExplanation, view: View, backdrop: Image.Image) -> Image.Image:
    canvas = lit(backdrop, view.layers[0].kept)
    found = _detections(explanation, view.objects, canvas)
    canvas = draw_detections(canvas, found, labels=False, legend=False)
    drawing, font = ImageDraw.Draw(canvas), text_font(30)
    scale = canvas.width / explanation.image.width
    for index in view.lost:
        lost = explanation.own.objects[index]
        left, top, right, bottom = (scale * side for side in lost.box_xyxy)
        drawing.rectangle((left - 3, top - 3, right + 3, bottom + 3), outline=(0, 0, 0), width=10)
        drawing.rectangle((left, top, right, bottom), outline=PAPER, width=5)
        text = f"lost: {explanation.class_names[lost.label]}"
        y = top - 40 if top >= 40 else bottom
        drawing.rectangle((left, y, left + font.getlength(text) + 16, y + 40), fill=PAPER)
        drawing.text((left + 8, y + 20), text, fill=(0, 0, 0), font=font, anchor="lm")
    return canvas


def _query(backdrop: Image.Image, explanation: PictureExplanation, found: Found) -> Image.Image:
    """The part of the picture around an object, and where its query looked."""
    assert found.samples is not None
    scale = backdrop.width / explanation.image.width
    box = np.array(found.box_xyxy) * scale
    places = found.samples.points * scale
    # Nine tenths of the weight, and the box: a few points far away would shrink all else.
    heavy = places[np.argsort(-found.samples.weights)][: max(1, int(0.9 * len(places)))]
    corners = np.concatenate([heavy, box.reshape(2, 2)])
    middle, side = (corners.min(0) + corners.max(0)) / 2, max(np.ptp(corners, axis=0).max() * 1.15, 64)
    left, top = middle - side / 2
    zoom = 600 / side
    window = backdrop.crop((round(left), round(top), round(left + side), round(top + side)))
    canvas = window.resize((600, 600), Image.Resampling.BICUBIC).convert("L").point(lambda v: v * 0.7)
    canvas = canvas.convert("RGB")
    drawing = ImageDraw.Draw(canvas)
    drawing.rectangle(
        tuple(((box.reshape(2, 2) - (left, top)) * zoom).flatten()), outline=class_color(found.label), width=5
    )
    order = np.argsort(found.samples.weights)
    strongest = found.samples.weights.max()
    for index in order:
        x, y = (places[index] - (left, top)) * zoom
        radius = 3 + 9 * (found.samples.weights[index] / strongest) ** 0.5
        color = ImageColor.getrgb(CURVES[int(found.samples.levels[index]) % len(CURVES)])
        drawing.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline=PAPER)
    return canvas


def _chosen(objects: Sequence[Found]) -> list[Found]:
    """A few objects: the best of each class, then the best of the rest."""
    first: dict[int, Found] = {}
    for found in objects:
        first.setdefault(found.label, found)
    rest = [found for found in objects if first[found.label] is not found]
    return [*first.values(), *rest][:_QUERIES]


def _detections(explanation: PictureExplanation, objects: Sequence[Found], canvas: Image.Image) -> Detections:
    """The objects in pixels of a canvas."""
    scale = canvas.width / explanation.image.width
    boxes = np.array([found.box_xyxy for found in objects], dtype=np.float32).reshape(-1, 4) * scale
    labels = np.array([found.label for found in objects], dtype=np.int64)
    scores = np.array([found.score for found in objects], dtype=np.float32)
    instances = Instances(boxes, labels, scores=scores)
    return Detections(explanation.name, instances, explanation.class_names, (canvas.height, canvas.width))


def _levels(count: int) -> Image.Image:
    """A strip with the color of each level."""
    strip = Image.new("RGB", (WIDTH, 44), PAPER)
    drawing, font, x = ImageDraw.Draw(strip), text_font(24), 24.0
    for level in range(count):
        text = f"level {level + 1}" + (", the finest" if level == 0 else "")
        color = ImageColor.getrgb(CURVES[level % len(CURVES)])
        drawing.ellipse((x, 12, x + 16, 28), fill=color)
        drawing.text((x + 26, 20), text, fill=MUTED, font=font, anchor="lm")
        x += 26 + font.getlength(text) + 40
    return strip


def _remark(text: str) -> Image.Image:
    strip = Image.new("RGB", (WIDTH, 44), PAPER)
    ImageDraw.Draw(strip).text((24, 20), text, fill=MUTED, font=text_font(24), anchor="lm")
    return strip
