// What canvases show: heat maps, where a query looked, and the picture with its boxes to keep.

import { classColor, css, inkOn } from "./palette.js";

const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

/** The picture at an address, decoded. */
export async function imageAt(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

/** A heat map's picture (grey, bright where foreground is) in color, clear where nothing is. */
export function drawHeat(canvas, image) {
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  if (!isGrey(data)) return; // in color already
  for (let at = 0; at < data.length; at += 4) {
    const heat = data[at] / 255;
    const step = Math.min(heat * (INFERNO.length - 1), INFERNO.length - 1.001);
    const [low, high, share] = [INFERNO[Math.floor(step)], INFERNO[Math.floor(step) + 1], step % 1];
    for (let band = 0; band < 3; band++) data[at + band] = low[band] + (high[band] - low[band]) * share;
    data[at + 3] = 255 * Math.min(0.85, 1.2 * heat);
  }
  context.putImageData(pixels, 0, 0);
}

function isGrey(data) {
  for (let at = 0; at < data.length; at += 4) {
    if (data[at] !== data[at + 1] || data[at] !== data[at + 2] || data[at + 3] !== 255) return false;
  }
  return true;
}

/** Dots where a query looked: the larger, the more it took from there. points: [x, y, weight] of the picture. */
export function drawLooked(canvas, points, color, { width, height }) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  const context = canvas.getContext("2d");
  const largest = Math.max(...points.map(([, , weight]) => weight), 1e-9);
  const faintFirst = [...points].sort((a, b) => a[2] - b[2]);
  for (const [x, y, weight] of faintFirst) {
    const share = Math.sqrt(Math.max(weight, 0) / largest);
    context.beginPath();
    context.arc((x / width) * canvas.width, (y / height) * canvas.height, (1.2 + 5 * share) * ratio, 0, 7);
    context.fillStyle = css(color, 0.25 + 0.7 * share);
    context.strokeStyle = `rgb(255 255 255 / ${0.15 + 0.85 * share})`;
    context.lineWidth = 1.2 * ratio;
    context.fill();
    context.stroke();
  }
}

/** The picture in its own size with its boxes, as a PNG file's Blob; layers: canvases over it, below the boxes. */
export async function picturePng(picture, detections, { labels = true, layers = [] } = {}) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  context.drawImage(picture.image, 0, 0, canvas.width, canvas.height);
  for (const layer of layers) context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  const line = Math.max(2, Math.round(Math.max(canvas.width, canvas.height) / 400));
  const size = Math.max(11, line * 6);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const { class: name, label, score, box: [left, top, right, bottom] } of [...detections].reverse()) {
    const color = classColor(label);
    context.lineWidth = line;
    context.strokeStyle = css(color);
    context.strokeRect(left, top, right - left, bottom - top);
    if (!labels) continue;
    const text = `${name} ${Math.round(100 * score)}`;
    const width = context.measureText(text).width + size * 0.8;
    const height = size * 1.45;
    const y = top - height < 0 ? top : top - height;
    const x = Math.min(left - line / 2, Math.max(0, canvas.width - width));
    context.fillStyle = css(color);
    context.fillRect(x, y, width, height);
    context.fillStyle = inkOn(color);
    context.fillText(text, x + size * 0.4, y + height / 2);
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
