// The classes as a row of switches: which ones are shown, and how many there are.

import { classColor, css, inkOn } from "./palette.js";

const FEW = 12; // more classes than that are listed where they were found only

/** counted: the one of the panes whose objects are counted. */
export function choices(container, panes, counted, view, onChange) {
  const known = new Map();
  const counts = new Map();
  for (const pane of panes) {
    const few = pane.model.classes.length <= FEW;
    const found = pane.reaching(view);
    pane.model.classes.forEach((name, label) => {
      if (few || view.hidden.has(name) || found.some((each) => each.class === name)) known.set(name, known.get(name) ?? label);
    });
    if (pane === counted) for (const each of found) counts.set(each.class, (counts.get(each.class) ?? 0) + 1);
  }
  const there = new Map([...container.children].map((chip) => [chip.dataset.name, chip]));
  const chips = [...known].map(([name, label]) => there.get(name) ?? chip(name, label, view, onChange));
  for (const each of chips) {
    const shown = !view.hidden.has(each.dataset.name);
    each.setAttribute("aria-pressed", String(shown));
    each.querySelector(".count").textContent = counts.get(each.dataset.name) ?? 0;
  }
  // Only where something changed, or the one in focus would lose it.
  if (chips.length !== there.size || chips.some((each) => !there.has(each.dataset.name))) container.replaceChildren(...chips);
}

function chip(name, label, view, onChange) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.dataset.name = name;
  const color = classColor(label);
  button.style.setProperty("--color", css(color));
  button.style.setProperty("--ink", inkOn(color));
  const count = document.createElement("span");
  count.className = "count";
  button.append(name, " ", count);
  button.addEventListener("click", () => {
    if (!view.hidden.delete(name)) view.hidden.add(name);
    onChange();
  });
  return button;
}
