// Which pixels objects cover, over the picture: COCO's compressed run lengths, in the colors of classes.

import { classColor } from "./palette.js";

const LONGEST = 1024; // cells of the canvas's longer side: more than a screen shows of one picture
const TINT = 0.45;

/** Lengths of runs, columns from the top, of background and object in turns. */
export function runLengths(counts) {
  const lengths = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let code;
    do {
      code = counts.charCodeAt(at++) - 48;
      value |= (code & 0x1f) << shift;
      shift += 5;
    } while (code & 0x20 && at < counts.length);
    if (code & 0x10 && shift < 32) value |= -1 << shift;
    // From the third object on, the difference to the one before.
    lengths.push(lengths.length > 2 ? value + lengths[lengths.length - 2] : value);
  }
  return lengths;
}

/** Pixels that a mask covers. */
export function covered({ counts }) {
  return runLengths(counts).reduce((sum, length, turn) => sum + (turn % 2 ? length : 0), 0);
}

/** The masks of detections, the first in front; clear where there is none. */
export function drawMasks(canvas, detections, { width, height }) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (const { mask, label } of [...detections].reverse()) {
    if (mask) paint(pixels, mask, classColor(label));
  }
  context.putImageData(pixels, 0, 0);
}

function paint({ data, width, height }, { size: [rows, columns], counts }, [red, green, blue]) {
  const [x, y] = [width / columns, height / rows];
  let place = 0;
  runLengths(counts).forEach((length, turn) => {
    const end = place + length;
    while (turn % 2 && place < end) {
      // The part of a run that is in one column.
      const column = Math.floor(place / rows);
      const until = Math.min(end, (column + 1) * rows);
      const [left, right] = [Math.floor(column * x), Math.max(Math.floor(column * x) + 1, Math.ceil((column + 1) * x))];
      const [top, bottom] = [Math.floor((place - column * rows) * y), Math.ceil((until - column * rows) * y)];
      for (let row = top; row < Math.min(bottom, height); row++) {
        for (let at = 4 * (row * width + left); at < 4 * (row * width + Math.min(right, width)); at += 4) {
          [data[at], data[at + 1], data[at + 2], data[at + 3]] = [red, green, blue, 255 * TINT];
        }
      }
      place = until;
    }
    place = end;
  });
}
