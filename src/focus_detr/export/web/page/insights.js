// What the model says of itself: where it expects objects, and where it looked for each.

const LONGEST = 320; // pixels of a heat map; there are fewer tokens

/** Give each detection `where`: [x, y, weight] of each place that its query looked at, the most looked at first. */
export function placesOf(detections, { locations, shares }, width, height) {
  const [, , heads, levels, points] = shares.dims;
  const places = heads * levels * points;
  for (const each of detections) {
    const weights = shares.data.subarray(each.query * places, (each.query + 1) * places);
    const at = locations.data.subarray(2 * each.query * places, 2 * (each.query + 1) * places);
    each.where = Array.from(weights, (weight, place) => [at[2 * place] * width, at[2 * place + 1] * height, weight / heads]);
    each.where.sort((a, b) => b[2] - a[2]);
  }
}

/** The best foreground score of all levels as a grey picture's address; white is the best of the picture. */
export async function heatOf(scores, { width, height }, strides) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const [columns, rows] = [Math.round(width * scale), Math.round(height * scale)];
  const best = new Float32Array(columns * rows);
  let start = 0;
  for (const stride of strides) {
    const level = { columns: Math.ceil(width / stride), rows: Math.ceil(height / stride) };
    level.scores = scores.subarray(start, start + level.columns * level.rows);
    start += level.columns * level.rows;
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const at = y * columns + x;
        best[at] = Math.max(best[at], between(level, (x + 0.5) / columns, (y + 0.5) / rows));
      }
    }
  }
  const largest = Math.max(best.reduce((a, b) => Math.max(a, b), 0), 1e-6);
  const pixels = new ImageData(columns, rows);
  best.forEach((score, at) => pixels.data.fill((255 * score) / largest, 4 * at, 4 * at + 3).fill(255, 4 * at + 3, 4 * at + 4));
  const canvas = new OffscreenCanvas(columns, rows);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return new FileReaderSync().readAsDataURL(await canvas.convertToBlob({ type: "image/png" }));
}

/** A level's score at a place (shares of width and height), between those of the four tokens around it. */
function between({ scores, columns, rows }, x, y) {
  const within = (value, side) => Math.min(Math.max(value, 0), side - 1);
  const [column, row] = [within(x * columns - 0.5, columns), within(y * rows - 0.5, rows)];
  const [left, top] = [Math.floor(column), Math.floor(row)];
  const [right, bottom] = [Math.min(left + 1, columns - 1), Math.min(top + 1, rows - 1)];
  const [across, down] = [column - left, row - top];
  const along = (line) => scores[line * columns + left] * (1 - across) + scores[line * columns + right] * across;
  return along(top) * (1 - down) + along(bottom) * down;
}
