// Which pixels objects cover, as focus_detr/structures/pixel_masks.py has it: what a query says times what a pixel
// says, and a quadratic form in the pixel's place in the query's box.

const FORM = 6; // coefficients of 1, u, v, u^2, v^2, uv; (u, v) runs from -0.5 to 0.5 across the box
const REACH = 1; // as far as (u, v) goes

/** Give each detection `mask`, COCO's compressed run lengths, in a picture of these sides.
 * masks_kernels (1,Q,E+6) and masks_pixels (1,E,H,W) are tensors of ONNX Runtime; the picture fills the map. */
export function masksOf(detections, { masks_kernels, masks_pixels }, width, height) {
  const size = masks_kernels.dims[2];
  for (const each of detections) {
    const kernel = masks_kernels.data.subarray(each.query * size, (each.query + 1) * size);
    each.mask = { size: [height, width], counts: compressed(ends(kernel, masks_pixels, each.box, width, height)) };
  }
}

/** Where runs of background and object end, in turns, columns from the top. */
function ends(kernel, pixels, [left, top, right, bottom], width, height) {
  const [, , rows, columns] = pixels.dims;
  const [across, down] = [places(left, right, width, columns), places(top, bottom, height, rows)];
  const said = products(kernel, pixels, across, down);
  const [one, byU, byV, byUU, byVV, byUV] = kernel.subarray(kernel.length - FORM);
  const found = [];
  for (const { pixel: x, cell: column, beyond: right, at: u } of across) {
    for (const { pixel: y, cell: row, beyond: below, at: v } of down) {
      const here = said(row, column) * (1 - right) + said(row, column + 1) * right;
      const next = said(row + 1, column) * (1 - right) + said(row + 1, column + 1) * right;
      const form = one + u * (byU + byUU * u + byUV * v) + v * (byV + byVV * v);
      if (here * (1 - below) + next * below + form <= 0) continue;
      const place = x * height + y;
      if (found.at(-1) === place) found[found.length - 1] = place + 1;
      else found.push(place, place + 1);
    }
  }
  return found.at(-1) === width * height ? found : [...found, width * height];
}

/** Pixels along an axis whose middle is in the box, one at least: the cells that each lies between, and where in the box. */
function places(begin, end, side, cells) {
  const low = Math.min(Math.max(Math.floor(begin + 0.5), 0), side - 1);
  const high = Math.max(Math.min(Math.max(Math.ceil(end - 0.5), 0), side), low + 1);
  const [middle, extent] = [(begin + end) / 2, Math.max(end - begin, 1e-6)];
  return Array.from({ length: high - low }, (_, index) => {
    const pixel = low + index;
    const exact = Math.min(Math.max((pixel + 0.5) * (cells / side) - 0.5, 0), cells - 1);
    const cell = Math.min(Math.floor(exact), Math.max(cells - 2, 0));
    const at = Math.min(Math.max((pixel + 0.5 - middle) / extent, -REACH), REACH);
    return { pixel, cell, beyond: exact - cell, at };
  });
}

/** (row, column) -> what the kernel says times what that cell says, of the cells around a box. */
function products(kernel, { data, dims: [, numbers, rows, columns] }, across, down) {
  const [left, top] = [across[0].cell, down[0].cell];
  const [wide, high] = [across.at(-1).cell + 2 - left, down.at(-1).cell + 2 - top];
  const window = new Float64Array(wide * high);
  for (let number = 0; number < numbers; number++) {
    for (let row = 0; row < Math.min(high, rows - top); row++) {
      const start = (number * rows + top + row) * columns + left;
      for (let column = 0; column < Math.min(wide, columns - left); column++) {
        window[row * wide + column] += kernel[number] * data[start + column];
      }
    }
  }
  return (row, column) => window[(row - top) * wide + column - left];
}

/** COCO's text of runs that end there. */
function compressed(found) {
  const lengths = found.map((end, turn) => end - (turn ? found[turn - 1] : 0));
  let text = "";
  lengths.forEach((length, turn) => {
    // From the fourth on, the difference to the one before of its kind.
    let rest = turn > 2 ? length - lengths[turn - 2] : length;
    for (let more = true; more; ) {
      const bits = rest & 0x1f;
      rest >>= 5;
      more = rest !== (bits & 0x10 ? -1 : 0);
      text += String.fromCharCode(48 + bits + (more ? 0x20 : 0));
    }
  });
  return text;
}
