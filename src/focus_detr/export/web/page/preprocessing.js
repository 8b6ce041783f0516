// A picture as the model takes it, pixel for pixel as the package makes it (focus_detr/images): Pillow's
// bilinear resizing, which averages where it shrinks, then scale and offset of each color.

const LARGEST = 4096; // pixels of a side of a graph with free sizes
const BITS = 22; // of Pillow's fixed-point weights

/** RGBA pixels of a picture's file, upright, what is transparent over white, no color profile applied. */
export async function pixelsOf(blob) {
  let image;
  try {
    image = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw Object.assign(new Error("This browser cannot decode it."), { code: "unreadable" });
  }
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  image.close();
  return context.getImageData(0, 0, width, height);
}

export class Preprocessor {
  /** metadata: of the exported model; its image_processor holds the settings of FocusDetrImageProcessor. */
  constructor(metadata) {
    const settings = metadata.image_processor;
    this.settings = settings;
    this.fixed = metadata.image_size;
    this.step = metadata.size_step; // sides are multiples of it, where they are free
    const factor = settings.do_rescale ? settings.rescale_factor : 1;
    const norm = settings.do_normalize;
    this.scale = [0, 1, 2].map((band) => Math.fround(factor / (norm ? settings.image_std[band] : 1)));
    this.offset = [0, 1, 2].map((band) => (norm ? Math.fround(-settings.image_mean[band] / settings.image_std[band]) : 0));
  }

  /** RGBA pixels -> values (3, height, width) as Float32Array. */
  run(rgba, width, height) {
    const [toHeight, toWidth] = this.sizeOf(height, width);
    const rgb = resized(rgba, width, height, toWidth, toHeight);
    const values = new Float32Array(3 * toHeight * toWidth);
    for (let band = 0; band < 3; band++) {
      const [scale, offset, start] = [this.scale[band], this.offset[band], band * toHeight * toWidth];
      for (let at = 0; at < toHeight * toWidth; at++) {
        values[start + at] = Math.fround(rgb[4 * at + band] * scale) + offset;
      }
    }
    return { values, width: toWidth, height: toHeight };
  }

  /** [height, width] that a picture is resized to. */
  sizeOf(height, width) {
    if (this.fixed) return this.fixed;
    const wanted = this.settings.do_resize ? targetSize(height, width, this.settings.size) : [height, width];
    const smallest = this.step > 1 ? 64 : 65;
    return wanted.map((side) => Math.min(Math.max(rounded(side / this.step) * this.step, smallest), LARGEST));
  }
}

function targetSize(height, width, { height: fixedHeight, width: fixedWidth, shortest_edge, longest_edge, multiple = 1 }) {
  if (fixedHeight) return [fixedHeight, fixedWidth];
  const scale = shortest_edge / Math.min(height, width);
  let sides = height < width ? [shortest_edge, scale * width] : [scale * height, shortest_edge];
  const longest = Math.max(...sides);
  if (longest_edge && longest > longest_edge) sides = sides.map((side) => side * (longest_edge / longest));
  return sides
    .map((side) => Math.max(1, Math.floor(side + 0.5)))
    .map((side) => Math.max(1, rounded(side / multiple)) * multiple);
}

/** To the nearest whole number, halves to the even one, as Python does. */
function rounded(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

/** RGBA pixels of another size, along one axis and then the other, rounded to 8 bits between. */
export function resized(rgba, width, height, toWidth, toHeight) {
  const across = (pixels, rows) =>
    toWidth === width ? pixels : along(pixels, weights(width, toWidth), rows, toWidth, [4 * width, 4], [4 * toWidth, 4]);
  const down = (pixels, columns) =>
    toHeight === height ? pixels : along(pixels, weights(height, toHeight), columns, toHeight, [4, 4 * columns], [4, 4 * columns]);
  // Which comes first tells in the last bit; this is Pillow's rule as of version 13, before which rows never did.
  const rowsFirst = toHeight < height && height - toHeight > 2 * (width - toWidth);
  return rowsFirst ? across(down(rgba, width), toHeight) : down(across(rgba, height), toWidth);
}

/** lines: how many run along the axis; steps: [from line to line, along the line] in source and result. */
function along(source, taps, lines, length, [sourceLine, sourceStep], [line, step]) {
  const result = new Uint8ClampedArray(lines * length * 4);
  const half = 1 << (BITS - 1);
  for (let to = 0; to < length; to++) {
    const { first, shares } = taps[to];
    for (let row = 0; row < lines; row++) {
      let from = row * sourceLine + first * sourceStep;
      let [red, green, blue] = [half, half, half];
      for (const share of shares) {
        red += source[from] * share;
        green += source[from + 1] * share;
        blue += source[from + 2] * share;
        from += sourceStep;
      }
      const at = row * line + to * step;
      result[at] = red >> BITS;
      result[at + 1] = green >> BITS;
      result[at + 2] = blue >> BITS;
    }
  }
  return result;
}

/** For each place of the result, the first place of the source that counts and the shares from there on. */
function weights(size, toSize) {
  const scale = size / toSize;
  const reach = Math.max(scale, 1); // of the triangle, which widens where it shrinks
  return Array.from({ length: toSize }, (_, to) => {
    const centre = (to + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(size, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: end - first }, (_, at) => Math.max(0, 1 - Math.abs((first + at - centre + 0.5) * (1 / reach))));
    const sum = raw.reduce((total, value) => total + value, 0);
    return { first, shares: Int32Array.from(raw, (value) => Math.trunc((value / sum) * (1 << BITS) + 0.5)) };
  });
}
