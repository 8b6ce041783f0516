// The boxes over a picture: buttons, so that pointer, keyboard and screen reader all find them.

import { classColor, css, inkOn } from "./palette.js";
import { roving } from "./roving.js";
import { percent } from "./words.js";

export class Boxes {
  /** onLook(detection or null): one is pointed at, or walked to. */
  constructor(container, onLook) {
    this.container = container;
    this.buttons = new Map();
    this.onLook = onLook;
    this.refresh = roving(container, ".box");
    container.setAttribute("aria-label", "Objects found; arrow keys walk through them");
    container.addEventListener("pointerover", (event) => this.#at(event));
    container.addEventListener("pointerdown", (event) => this.#at(event));
    container.addEventListener("focusin", (event) => this.#at(event));
    container.addEventListener("focusout", () => onLook(null));
    container.addEventListener("keydown", (event) => {
      if (event.key === "Escape") onLook(null);
    });
  }

  show(detections, { width, height }) {
    // Small boxes lie above large ones, or nobody could point at them.
    const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
    const largestFirst = [...detections].sort((a, b) => area(b) - area(a));
    this.buttons = new Map(detections.map((detection) => [detection, button(detection, width, height)]));
    largestFirst.forEach((detection, rank) => {
      this.buttons.get(detection).style.zIndex = rank + 1;
    });
    this.container.replaceChildren(...this.buttons.values());
    this.refresh();
  }

  /** shown: Set of detections; alone: those that the other of two panes lacks, or null. */
  filter(shown, { labels, alone }) {
    this.container.classList.toggle("named", labels);
    for (const [detection, each] of this.buttons) {
      each.hidden = !shown.has(detection);
      each.classList.toggle("alone", Boolean(alone?.has(detection)));
    }
    this.refresh();
  }

  highlight(detection) {
    this.container.classList.toggle("looking", Boolean(detection));
    for (const [each, element] of this.buttons) element.classList.toggle("looked-at", each === detection);
  }

  #at(event) {
    const target = event.target.closest(".box");
    for (const [detection, element] of this.buttons) {
      if (element === target) return this.onLook(detection);
    }
    if (event.type === "pointerover") this.onLook(null);
  }
}

function button({ class: name, label, score, box: [left, top, right, bottom] }, width, height) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "box";
  element.tabIndex = -1;
  const color = classColor(label);
  const share = (value) => `${(100 * value).toFixed(4)}%`;
  element.style.left = share(left / width);
  element.style.top = share(top / height);
  element.style.width = share((right - left) / width);
  element.style.height = share((bottom - top) / height);
  element.style.setProperty("--color", css(color));
  element.style.setProperty("--ink", inkOn(color));
  element.setAttribute("aria-label", `${name}, ${percent(score)}`);
  element.classList.toggle("at-top", top / height < 0.05);
  element.classList.toggle("at-right", left / width > 0.8);
  const tag = document.createElement("span");
  tag.className = "tag";
  tag.textContent = `${name} ${Math.round(100 * score)}`;
  element.append(tag);
  return element;
}
