// A model that runs in this browser, as the engine that finds objects: no picture leaves it.

/** Why there is no answer; `code` is "gone" where a file of this page cannot be had. */
export class EngineError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
    this.status = code === "unreadable" ? 415 : null; // of the service that this engine stands for
    this.retryAfter = this.requestId = null;
  }
}

export const where = "Pictures stay in this browser: the model runs here.";

let worker = null; // started by the first picture, since the model is large
let last = 0;
const waiting = new Map();

export async function models() {
  const { name, class_names, score_threshold, class_thresholds, ...rest } = await json("model.json");
  const { size_megabytes, insights, strides, graphs } = rest;
  const model = { name, default: true, classes: class_names, threshold: score_threshold ?? 0.5, class_thresholds };
  const choices = graphs.map(({ share }) => share).sort((a, b) => a - b);
  const budget = { accepted: choices.length > 1, default: null, smallest: choices[0], choices };
  const heatmap = insights.includes("foreground") && strides !== null;
  return [{ ...model, budget, heatmap, where: insights.includes("locations"), size_megabytes }];
}

export async function examples() {
  return (await json("examples/examples.json")).examples;
}

/** As the service's, of the one model that there is. */
export async function detect(picture, { threshold, budget, heatmap, where, signal }) {
  worker ??= started();
  const id = ++last;
  const answer = await new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    signal?.addEventListener("abort", () => {
      worker?.postMessage({ drop: id });
      reject(signal.reason);
    });
    worker.postMessage({ id, blob: picture.blob, wanted: { threshold, budget, heatmap, where } });
  });
  waiting.delete(id);
  return answer;
}

export function setKey() {}

function started() {
  const made = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  made.onmessage = ({ data: { id, answer, error } }) => {
    const asked = waiting.get(id);
    waiting.delete(id);
    if (answer) asked?.resolve(answer);
    else asked?.reject(new EngineError(error.code, error.message));
  };
  made.onerror = (event) => {
    event.preventDefault();
    worker = null;
    for (const { reject } of waiting.values()) reject(new EngineError("gone", event.message ?? "no worker"));
    waiting.clear();
  };
  return made;
}

async function json(address) {
  try {
    const response = await fetch(address);
    if (response.ok) return await response.json();
  } catch {
    // Said below.
  }
  throw new EngineError("gone", `${address} cannot be had.`);
}
