// Detections as files: the layouts that `focus-detr predict` writes.

import { covered } from "./masks.js";
import { zip } from "./zip.js";

const NARROWEST = 2e-5; // of a side; less is none to readers of single precision
const flat = (name) => name.replace(/[/\\:\0]/g, "_"); // one file, in no folder
const stem = (name) => flat(name).replace(/\.[^.]*$/, "") || "picture";
const hundredths = (pixels) => Math.round(100 * pixels) / 100; // as exact as the answer
const text = (content, type) => new Blob([content], { type });

/** As a line of `predict`'s JSON lines, with what the answer says of itself. */
export function asJson(picture, answer, detections) {
  const content = {
    path: picture.name,
    width: picture.width,
    height: picture.height,
    model: answer.model,
    budget: answer.budget,
    kept: answer.kept,
    objects: detections.map(({ class: name, label, score, box, mask }) => ({ label, name, score, box_xyxy: box, mask })),
  };
  return { name: `${stem(picture.name)}.json`, blob: text(JSON.stringify(content, null, 1), "application/json") };
}

/** A COCO data set of one image, scores beside the boxes; category ids are labels, as in `predict --coco`. */
export function asCoco(picture, answer, detections, classes) {
  const content = {
    images: [{ id: 1, file_name: picture.name, width: picture.width, height: picture.height }],
    categories: classes.map((name, id) => ({ id, name })),
    annotations: detections.map(({ label, score, mask, box: [left, top, right, bottom] }, index) => ({
      id: index + 1,
      image_id: 1,
      category_id: label,
      bbox: [left, top, right - left, bottom - top].map(hundredths),
      area: mask ? covered(mask) : hundredths((right - left) * (bottom - top)),
      segmentation: mask,
      iscrowd: 0,
      score,
    })),
  };
  return { name: `${stem(picture.name)}-coco.json`, blob: text(JSON.stringify(content, null, 1), "application/json") };
}

/** A YOLO data set of one image, as an archive: data.yaml, classes.txt, images/ and labels/. */
export async function asYolo(picture, answer, detections, classes) {
  const rows = detections.map(({ label, box: [left, top, right, bottom] }) => {
    const numbers = [
      (left + right) / 2 / picture.width,
      (top + bottom) / 2 / picture.height,
      Math.max((right - left) / picture.width, NARROWEST),
      Math.max((bottom - top) / picture.height, NARROWEST),
    ];
    return `${label} ${numbers.map((value) => value.toFixed(6)).join(" ")}\n`;
  });
  const names = classes.map((name) => name.replace(/\s+/g, " ").trim());
  const yaml = ["train: images", `nc: ${names.length}`, "names:", ...names.map((name, id) => `  ${id}: ${JSON.stringify(name)}`)];
  const bytes = (content) => new TextEncoder().encode(content);
  const name = stem(picture.name);
  const archive = zip([
    ["data.yaml", bytes(`${yaml.join("\n")}\n`)],
    ["classes.txt", bytes(names.map((each) => `${each}\n`).join(""))],
    [`labels/${name}.txt`, bytes(rows.join(""))],
    [`images/${fileName(picture)}`, new Uint8Array(await picture.blob.arrayBuffer())],
  ]);
  return { name: `${name}-yolo.zip`, blob: archive };
}

/** The picture's name with the ending that its content has. */
function fileName(picture) {
  const endings = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp" };
  if (/\.(jpe?g|png|webp|gif|bmp|tiff?)$/i.test(picture.name)) return flat(picture.name);
  return `${stem(picture.name)}.${endings[picture.blob.type] ?? "jpg"}`;
}

/** Hand a file to the browser's downloads. */
export function save({ name, blob }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
