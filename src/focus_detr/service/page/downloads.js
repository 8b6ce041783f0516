// What the buttons under "Download" save: the objects as they are shown.

import { picturePng } from "./drawing.js";
import { asCoco, asJson, asYolo, save } from "./formats.js";

const FORMATS = { json: asJson, coco: asCoco, yolo: asYolo };

export async function download(kind, picture, pane, view) {
  if (!pane.answer) return;
  const shown = pane.shown(view);
  if (kind === "picture") {
    const layers = [pane.parts.masks, pane.parts.heat].filter((each) => !each.hidden);
    const blob = await picturePng(picture, shown, { labels: view.labels, layers });
    save({ name: `${picture.name.replace(/\.[^.]*$/, "")}-boxes.png`, blob });
    return;
  }
  save(await FORMATS[kind](picture, pane.answer, shown, pane.model.classes));
}
