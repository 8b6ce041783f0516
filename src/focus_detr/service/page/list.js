// The detections as a table, which a screen reader reads and a pointer follows.

import { classColor, css } from "./palette.js";
import { roving } from "./roving.js";
import { percent } from "./words.js";

export class List {
  /** onLook(detection or null) */
  constructor(body, onLook) {
    this.body = body;
    this.onLook = onLook;
    this.rows = new Map();
    this.refresh = roving(body, ".list-name");
    const at = (event) => {
      const row = event.target.closest("tr");
      for (const [detection, each] of this.rows) if (each === row) onLook(detection);
    };
    body.addEventListener("pointerover", at);
    body.addEventListener("focusin", at);
    body.addEventListener("click", at);
    body.addEventListener("pointerleave", () => onLook(null));
    body.addEventListener("focusout", () => onLook(null));
  }

  show(detections) {
    const focused = [...this.rows].find(([, row]) => row.contains(document.activeElement))?.[0];
    this.rows = new Map(detections.map((detection) => [detection, this.rows.get(detection) ?? rowOf(detection)]));
    this.body.replaceChildren(...this.rows.values());
    if (focused && this.rows.has(focused)) this.rows.get(focused).querySelector("button").focus();
    this.refresh();
  }

  highlight(detection) {
    for (const [each, row] of this.rows) row.classList.toggle("looked-at", each === detection);
    const row = this.rows.get(detection);
    const frame = this.body.closest(".list-frame");
    if (!row || row.contains(document.activeElement) || row.matches(":hover")) return;
    const [top, bottom] = [row.offsetTop - row.offsetHeight, row.offsetTop + row.offsetHeight];
    if (top < frame.scrollTop) frame.scrollTop = top;
    else if (bottom > frame.scrollTop + frame.clientHeight) frame.scrollTop = bottom - frame.clientHeight;
  }
}

function rowOf({ class: name, label, score, box: [left, top, right, bottom] }) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "list-name";
  button.tabIndex = -1;
  button.style.setProperty("--color", css(classColor(label)));
  button.textContent = name;
  head.append(button);
  const cell = (text) => {
    const each = document.createElement("td");
    each.className = "number";
    each.textContent = text;
    return each;
  };
  row.append(head, cell(percent(score)), cell(`${Math.round(right - left)} × ${Math.round(bottom - top)}`));
  return row;
}
