// The page: a picture, one pane or two that show it, and the settings that they share.

import { choices } from "./classes.js";
import { download } from "./downloads.js";
import * as engine from "./engine.js";
import { askKey } from "./key.js";
import { Line } from "./line.js";
import { List } from "./list.js";
import { pairs } from "./matching.js";
import { Notice } from "./notice.js";
import { nearest, Pane } from "./pane.js";
import { pictureAt, PictureError, release, shrunk } from "./pictures.js";
import { listen } from "./sources.js";
import { counted, duration, percent, summary } from "./words.js";

const at = (id) => document.getElementById(id);
const view = { threshold: 0.5, moved: false, hidden: new Set(), labels: true };
const line = new Line();
const list = new List(at("list"), (detection) => panes[side]?.look(detection));
const trouble = new Notice(at("alert"), (action) => (action === "key" ? askKey(begin) : begin()));

let models = [];
let panes = [];
let side = 0; // the pane whose objects are listed and downloaded
let picture = null;
let shared = []; // pairs of detections that both of two panes show
let frames = null; // of the camera, while it is watched

async function begin() {
  trouble.clear();
  at("where").textContent = engine.where;
  try {
    models = await engine.models();
  } catch (error) {
    trouble.say(error, error.retryAfter, begin);
    return;
  }
  const first = models.find((each) => each.default) ?? models[0];
  setThreshold(first.threshold ?? 0.5);
  at("heat-row").hidden = !models.some((each) => each.heatmap);
  at("look-hint").hidden = models.every((each) => each.where === false);
  at("compare").hidden = models.length < 2 && !models[0].budget.accepted; // there would be nothing to
  if (!panes.length) addPane();
  if (picture) for (const pane of panes) pane.show(picture);
  await showExamples();
}

function addPane(options) {
  const pane = new Pane(models, line, options);
  panes.push(pane);
  at("panes").append(pane.element);
  pane.addEventListener("answer", () => answered(pane));
  pane.addEventListener("look", ({ detail }) => looked(pane, detail));
  pane.addEventListener("model", () => {
    if (!view.moved && pane === panes[0]) setThreshold(pane.model.threshold ?? 0.5);
  });
  pane.addEventListener("action", ({ detail }) => act(detail));
  arrange();
  return pane;
}

/** One box is pointed at: the same object shows in the list and in the other pane. */
function looked(pane, detection) {
  const same = (detection && shared.find((pair) => pair.includes(detection))) ?? [];
  if (pane === panes[side]) list.highlight(detection);
  else list.highlight(same[side] ?? null);
  panes.forEach((each, index) => each !== pane && each.boxes.highlight(same[index] ?? null));
}

function arrange() {
  const two = panes.length > 1;
  at("panes").classList.toggle("two", two);
  panes.forEach((pane, index) => (pane.letter = two ? "AB"[index] : null));
  at("compare").setAttribute("aria-pressed", String(two));
  at("sides").hidden = !two;
  chooseSide(Math.min(side, panes.length - 1));
}

function compare() {
  if (panes.length > 1) {
    panes.pop().remove();
    arrange();
    render();
    return;
  }
  // The next model, where there is one; else the same with fewer tokens, which is what a budget is for.
  const { model, budget, answer } = panes[0];
  const other = models[(models.indexOf(model) + 1) % models.length];
  const { accepted, smallest = 0.05, choices } = model.budget;
  const now = typeof budget === "number" ? budget : (answer?.kept ?? 1);
  const half = Math.max(smallest, round(now / 2));
  const less = accepted ? (choices ? nearest(choices, half) : half) : null;
  const pane = addPane({ model: other, budget: other === model ? less : null });
  pane.heat = at("heat").checked;
  pane.show(picture);
  render();
}

const round = (share) => Math.round(share * 20) / 20;

async function use(promise) {
  let next;
  at("refused").replaceChildren();
  try {
    next = await promise;
  } catch (error) {
    if (!(error instanceof PictureError)) throw error;
    at("refused").replaceChildren(plain(error.message));
    return;
  }
  if (!next) return;
  if (panes.length) trouble.clear(); // of the camera; what the panes meet they say themselves
  frames?.stop();
  setPicture(next);
  for (const pane of panes) pane.show(picture);
  render();
}

function setPicture(next) {
  const last = picture;
  picture = next;
  setTimeout(() => release(last), 1000); // what shows it has gone on by then
  at("start").hidden = true;
  at("work").hidden = false;
  at("strip").append(at("examples"));
  at("strip").hidden = false;
  at("compare").disabled = false;
  at("credit").textContent = picture.credit;
  document.title = `${picture.name} · Focus-DETR`;
}

/** Pictures of the camera as fast as answers come: the newest each time, none waits. */
async function watch(live) {
  frames?.stop();
  frames = live;
  at("stop").hidden = false;
  try {
    while (live.running) {
      const next = await live.next();
      const followed = await Promise.all(panes.map((pane) => pane.follow(next)));
      if (!live.running) break;
      if (!followed.every(Boolean)) continue; // a slider was moved
      setPicture(next);
      render();
    }
  } catch (error) {
    if (live.running) trouble.say(error);
  } finally {
    live.stop();
    if (frames === live) frames = null;
    at("stop").hidden = frames === null;
  }
}

function plain(message) {
  const box = document.createElement("p");
  box.className = "notice";
  box.textContent = message;
  return box;
}

function answered(pane) {
  render();
  if (!pane.answer || frames) return; // nobody could listen to so many
  const { kept, milliseconds } = pane.answer;
  const tokens = kept == null ? "" : ` ${percent(kept)} of the tokens,`;
  const who = panes.length > 1 ? `${"AB"[panes.indexOf(pane)]}: ` : "";
  at("live").textContent = `${who}${summary(pane.shown(view))}.${tokens} ${duration(milliseconds.model)}.`;
}

function render() {
  if (!panes.length) return; // the engine has not said yet what it can do
  shared = panes.length > 1 ? pairs(panes[0].shown(view), panes[1].shown(view)) : [];
  panes.forEach((pane, index) => {
    const matched = new Set(shared.map((pair) => pair[index]));
    const ready = panes.length > 1 && panes.every((each) => each.answer);
    pane.render(view, ready ? new Set(pane.shown(view).filter((each) => !matched.has(each))) : null);
  });
  const shown = panes[side].shown(view);
  list.show(shown);
  at("summary").textContent = panes[side].answer ? summary(shown) : "";
  choices(at("classes"), panes, panes[side], view, render);
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !panes[side].answer;
  sayVerdict();
}

/** What two panes share, and what they cost. */
function sayVerdict() {
  const [a, b] = panes.map((pane) => pane.answer);
  at("verdict").hidden = !a || !b;
  if (!a || !b) return;
  const alone = panes.map((pane) => pane.shown(view).length - shared.length);
  const time = b.milliseconds.model / Math.max(a.milliseconds.model, 1e-3);
  const tokens = a.kept && b.kept ? ` and ${(b.kept / a.kept).toFixed(2)} of its tokens` : "";
  at("verdict").textContent =
    `Both find ${counted(shared.length, "object")}; A alone ${alone[0]}, B alone ${alone[1]} (dashed). ` +
    `B takes ${time.toFixed(2)} of A’s time${tokens}.`;
}

function chooseSide(index) {
  side = index;
  for (const button of at("sides").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.side) === side));
  }
}

function setThreshold(value) {
  view.threshold = value;
  at("threshold").value = value;
  const said = value.toFixed(2);
  at("threshold-said").textContent = said;
  at("threshold").setAttribute("aria-valuetext", said);
}

async function showExamples() {
  let pictures = [];
  try {
    pictures = await engine.examples();
  } catch {
    return; // the page does without
  }
  const items = pictures.map((example) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "example";
    button.title = example.credit ?? "";
    const image = new Image();
    image.src = example.url;
    image.alt = example.name;
    image.loading = "lazy";
    button.append(image);
    button.addEventListener("click", () => use(pictureAt(example)));
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  at("example-list").replaceChildren(...items);
  at("examples").hidden = !items.length;
}

function act(action) {
  if (action === "shrink" || action === "convert") use(shrunk(picture));
  if (action === "key") askKey(() => panes.forEach((pane) => pane.ask()));
}

listen(use, watch);
at("stop").addEventListener("click", () => frames?.stop());
at("compare").addEventListener("click", compare);
at("threshold").addEventListener("input", () => {
  view.moved = true;
  setThreshold(Number(at("threshold").value));
  render();
});
at("threshold").addEventListener("change", () => (at("live").textContent = summary(panes[side].shown(view))));
at("labels").addEventListener("change", () => {
  view.labels = at("labels").checked;
  render();
});
at("heat").addEventListener("change", () => panes.forEach((pane) => pane.setHeat(at("heat").checked)));
at("sides").addEventListener("click", ({ target }) => {
  if (!target.dataset.side) return;
  chooseSide(Number(target.dataset.side));
  render();
});
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => panes.length && download(button.dataset.save, picture, panes[side], view));
}

begin();
