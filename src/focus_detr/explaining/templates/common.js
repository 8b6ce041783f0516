"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Elements with text alone: names of classes and files are never markup.
function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function row(cells, tag = "td") {
  const made = element("tr");
  for (const cell of cells) {
    if (cell instanceof Node) { const td = element(tag); td.append(cell); made.append(td); }
    else made.append(element(tag, cell, tag === "th" ? { scope: "col" } : {}));
  }
  return made;
}

// Of nearly all, and of hardly any, the digit that tells them from all and none.
const percent = (share) => share > 0.99 && share < 1 ? Math.floor(1000 * share) / 10 + " %"
  : (100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0) + " %";
const number = (value) => value.toLocaleString("en");
const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
const budgetName = (view) => view.budget.toFixed(2) + (view.own ? " (the model's own)" : "");

function startDial(views, show) {
  const slider = byId("budget");
  const own = views.findIndex((view) => view.own);
  slider.max = views.length - 1;
  slider.value = own;
  if (views.length < 2) slider.hidden = true;
  const move = () => {
    const view = views[slider.value];
    byId("share").textContent = budgetName(view);
    slider.setAttribute("aria-valuetext", budgetName(view));
    show(Number(slider.value));
  };
  slider.addEventListener("input", move);
  return move;
}
