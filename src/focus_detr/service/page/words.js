// Numbers and errors in words.

export function percent(share, digits = 0) {
  return `${(100 * share).toFixed(digits)} %`;
}

export function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

export function counted(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

const NAMED = 8; // classes of a summary, which is read aloud, too

/** "12 objects: 9 RBC, 3 WBC" */
export function summary(detections) {
  if (!detections.length) return "No objects at this threshold";
  const counts = new Map();
  for (const { class: name } of detections) counts.set(name, (counts.get(name) ?? 0) + 1);
  const most = [...counts].sort((a, b) => b[1] - a[1]);
  const parts = most.slice(0, NAMED).map(([name, count]) => `${count} ${name}`);
  const others = most.slice(NAMED).reduce((sum, [, count]) => sum + count, 0);
  if (others) parts.push(`${others} of other classes`);
  return `${counted(detections.length, "object")}: ${parts.join(", ")}`;
}

const ended = (said) => (/[.!?]$/.test(said) ? said : `${said}.`);

/**
 * What went wrong, and what can be done: title, text, and the action that a button offers, one of "retry",
 * "shrink", "convert", "key" or null.
 */
export function explained(error) {
  const { status, message } = error;
  if (error.code === "gone") {
    return {
      title: "The server does not answer",
      text: "It may have been stopped, or the connection is lost. Your picture is still here.",
      action: "retry",
    };
  }
  if (status === 401 || status === 403) {
    return { title: "The server asks for a key", text: message, action: "key" };
  }
  if (status === 413) {
    return {
      title: "The picture is too large for this server",
      text: `${ended(message)} A smaller copy can be made here.`,
      action: "shrink",
    };
  }
  if (status === 415 || error.code === "unreadable_picture") {
    const text = `${ended(message)} A copy as JPEG can be made here.`;
    return { title: "This picture cannot be read", text, action: "convert" };
  }
  if (status === 429) {
    return { title: "The server is busy", text: "Others are in line before you.", action: "retry" };
  }
  if (status === 503) {
    return { title: "The server is not ready", text: message, action: "retry" };
  }
  if (status === 504) {
    return { title: "It took too long", text: `${ended(message)} A lower budget is faster.`, action: "retry" };
  }
  const id = error.requestId ? ` (request ${error.requestId})` : "";
  return { title: "That did not work", text: `${message}${id}`, action: status === 422 ? null : "retry" };
}
