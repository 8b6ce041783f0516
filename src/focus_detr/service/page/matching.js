// Which boxes two answers share.

/** Intersection over union of boxes [x1, y1, x2, y2]. */
export function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared);
}

/** Pairs of detections of one class that overlap by half or more, best first, each in one pair at most. */
export function pairs(first, second) {
  const candidates = [];
  for (const a of first) {
    for (const b of second) {
      const shared = a.class === b.class ? overlap(a.box, b.box) : 0;
      if (shared >= 0.5) candidates.push([shared, a, b]);
    }
  }
  const taken = new Set();
  const found = [];
  for (const [, a, b] of candidates.sort((x, y) => y[0] - x[0])) {
    if (taken.has(a) || taken.has(b)) continue;
    taken.add(a).add(b);
    found.push([a, b]);
  }
  return found;
}
