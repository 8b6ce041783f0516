// Outputs of the model -> detections, as FocusDetrImageProcessor.post_process_object_detection.

/** logits (1,Q,k) and boxes (1,Q,4) cxcywh as tensors of ONNX Runtime -> detections in pixels, best first, with the query of each. */
export function found(logits, boxes, { width, height, threshold, metadata }) {
  const { scoring, nms_threshold } = metadata.image_processor;
  const [, queries, classes] = logits.dims;
  const pairs = scoring === "softmax" ? softmax(logits.data, queries, classes) : sigmoid(logits.data, queries, classes);
  pairs.sort((a, b) => b.score - a.score);
  const detections = [];
  for (const { score, label, query } of pairs.slice(0, metadata.num_detections)) {
    if (score < threshold || score <= 0) break;
    const [x, y, w, h] = boxes.data.subarray(4 * query, 4 * query + 4);
    const within = (value, side) => Math.min(Math.max(value, 0), 1) * side;
    const box = [within(x - w / 2, width), within(y - h / 2, height), within(x + w / 2, width), within(y + h / 2, height)];
    if (box[2] > box[0] && box[3] > box[1]) detections.push({ class: metadata.class_names[label], label, score, box, query });
  }
  return nms_threshold == null ? detections : withoutDuplicates(detections, nms_threshold);
}

function sigmoid(logits, queries, classes) {
  return Array.from({ length: queries * classes }, (_, at) => ({
    score: 1 / (1 + Math.exp(-logits[at])),
    label: at % classes,
    query: Math.floor(at / classes),
  }));
}

/** The last class means no object; each query gives its best other one. */
function softmax(logits, queries, classes) {
  return Array.from({ length: queries }, (_, query) => {
    const own = logits.subarray(query * classes, (query + 1) * classes);
    const largest = Math.max(...own);
    const sum = own.reduce((total, value) => total + Math.exp(value - largest), 0);
    let label = 0;
    for (let each = 1; each < classes - 1; each++) if (own[each] > own[label]) label = each;
    return { score: Math.exp(own[label] - largest) / sum, label, query };
  });
}

/** Of boxes of one class that overlap by more, the best. */
function withoutDuplicates(detections, threshold) {
  const kept = [];
  for (const each of detections) {
    if (!kept.some((better) => better.label === each.label && overlaps(better.box, each.box, threshold))) kept.push(each);
  }
  return kept;
}

function overlaps(a, b, threshold) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const shared = width * height;
  return shared > threshold * ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared);
}
