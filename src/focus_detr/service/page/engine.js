// The service that this page came from, as the engine that finds objects. A page that runs a model in the
// browser has another file of this name, with the same functions.

/** Why there is no answer. `code` is the service's own, or "gone" where nothing answers. */
export class EngineError extends Error {
  constructor(code, message, { status = null, retryAfter = null, requestId = null } = {}) {
    super(message);
    this.code = code;
    this.status = status; // of HTTP; null where nothing answered
    this.retryAfter = retryAfter; // seconds
    this.requestId = requestId;
  }
}

/** Where the pictures go; said on the page. */
export const where = "Pictures go to this server alone and are not kept.";

/** What can be asked: name, default, classes, threshold, class_thresholds, budget, heatmap, parameters of each model. */
export async function models(signal) {
  return (await json("v1/models", { signal })).models;
}

/** Pictures for the first click: name, url, credit. */
export async function examples(signal) {
  const listed = (await json("examples", { signal })).examples;
  // Below this page, which a proxy may have put somewhere else than at the root.
  return listed.map((example) => ({ ...example, url: example.url.replace(/^\//, "") }));
}

/**
 * The objects of a picture, best first.
 *
 * options: model, threshold, budget (null for the model's own), heatmap, where, signal.
 */
export async function detect(picture, { signal, ...options }) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options)) {
    if (value !== null && value !== undefined && value !== false) query.set(name, String(value));
  }
  const body = new FormData();
  body.append("image", picture.blob, picture.name);
  return json(`v1/detect?${query}`, { method: "POST", body, signal });
}

/** Sent along from now on, to a service that asks for one; forgotten with the tab. */
export function setKey(key) {
  sessionStorage.setItem("focus-detr-key", key);
}

async function json(address, options) {
  const key = sessionStorage.getItem("focus-detr-key");
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new EngineError("gone", "The server does not answer.");
  }
  const text = await response.text();
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // A proxy on the way answers in a page of its own.
  }
  if (response.ok && content) return content;
  const said = content?.error ?? {};
  throw new EngineError(said.code ?? String(response.status), said.message ?? response.statusText, {
    status: response.status,
    retryAfter: seconds(response.headers.get("Retry-After")),
    requestId: said.request_id ?? null,
  });
}

function seconds(header) {
  if (!header) return null;
  const number = Number(header);
  return Number.isFinite(number) ? Math.max(1, number) : Math.max(1, (Date.parse(header) - Date.now()) / 1000);
}
