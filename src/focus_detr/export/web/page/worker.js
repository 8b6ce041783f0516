// The model, beside the page so that it stays quick: a picture's file in, an answer as the service's out.

import { pixelsOf, Preprocessor } from "./preprocessing.js";
import { masksOf } from "./covering.js";
import { found } from "./found.js";
import { heatOf, placesOf } from "./insights.js";

let model = null;

let last = Promise.resolve();
const dropped = new Set(); // questions that nobody waits for any more

self.onmessage = ({ data }) => {
  if (data.drop) dropped.add(data.drop);
  else last = last.then(() => turn(data));
};

async function turn({ id, blob, wanted }) {
  await new Promise((done) => setTimeout(done)); // for what was said while the model ran
  if (dropped.delete(id)) return;
  try {
    model ??= load();
    self.postMessage({ id, answer: await answer(await model, blob, wanted) });
  } catch (error) {
    if (!error.code) model = null; // a file of it did not come; the next picture tries again
    self.postMessage({ id, error: { code: error.code ?? "gone", message: String(error.message ?? error) } });
  }
}

async function load() {
  const [ort, metadata] = await Promise.all([import("./runtime/ort.js"), fetch("model.json").then((answer) => answer.json())]);
  // One thread: more need headers (COOP, COEP) that static hosts do not send.
  ort.env.wasm.numThreads = 1;
  const at = (name) => new URL(`./runtime/${name}`, import.meta.url).href;
  ort.env.wasm.wasmPaths = { mjs: at("ort-wasm.js"), wasm: at("ort-wasm.wasm") };
  const { weights } = metadata;
  const data = weights && new Uint8Array(await (await fetch(weights)).arrayBuffer());
  const externalData = weights ? [{ path: weights, data }] : [];
  const options = { executionProviders: ["wasm"], externalData };
  const open = once((file) => ort.InferenceSession.create(file, options));
  return { ort, open, metadata, preprocessor: new Preprocessor(metadata) };
}

/** The same, but for each argument computed once; what failed is tried again. */
function once(compute) {
  const known = new Map();
  return (argument) => {
    if (!known.has(argument)) known.set(argument, compute(argument).catch((error) => (known.delete(argument), Promise.reject(error))));
    return known.get(argument);
  };
}

async function answer({ ort, open, metadata, preprocessor }, blob, { threshold, budget, heatmap, where }) {
  const graph = metadata.graphs.find((each) => (budget == null ? each.budget === null : each.share === budget));
  const session = await open(graph.file);
  const begun = performance.now();
  const { data, width, height } = await pixelsOf(blob);
  const input = preprocessor.run(data, width, height);
  const ready = performance.now();
  const shape = [1, 3, input.height, input.width];
  const outputs = await session.run({ pixel_values: new ort.Tensor("float32", input.values, shape) });
  const done = performance.now();
  const detections = found(outputs.logits, outputs.pred_boxes, { width, height, threshold, metadata });
  if (outputs.masks_kernels) masksOf(detections, outputs, width, height);
  if (where && outputs.locations) placesOf(detections, outputs, width, height);
  const heat = heatmap && outputs.foreground ? await heatOf(outputs.foreground.data, input, metadata.strides) : null;
  for (const each of detections) delete each.query;
  const times = { decode: ready - begun, wait: 0, model: done - ready, total: performance.now() - begun };
  return {
    model: metadata.name,
    image: { width, height },
    budget,
    kept: graph.kept,
    milliseconds: times,
    detections,
    heatmap: heat,
    request_id: null,
  };
}
