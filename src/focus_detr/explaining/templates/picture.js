const svgName = "http://www.w3.org/2000/svg";
const [width, height] = data.size;
const cells = data.levels.reduce((sum, [h, w]) => sum + h * w, 0);
let current = 0;
let chosen = null; // an object: {view, index}, the own view's where it is lost here
let pinned = false;

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
// Whether each token is in a set: one bit each, fine to coarse, row by row; null is all of them.
function bits(text) {
  if (text === null) return new Uint8Array(cells).fill(1);
  const packed = bytes(text);
  return Uint8Array.from({ length: cells }, (_, i) => (packed[i >> 3] >> (7 - (i & 7))) & 1);
}

// Paints a value of each cell of the finest level: color(values of all levels at that place) -> [r, g, b, a].
function paint(values, levels, color) {
  const canvas = byId("overlay");
  const grids = levels.map((level) => data.levels[level]);
  const starts = levels.map((level) => data.levels.slice(0, level).reduce((sum, [h, w]) => sum + h * w, 0));
  [canvas.height, canvas.width] = grids[0];
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const here = grids.map(([h, w], i) => {
        const row = Math.floor(((y + 0.5) / canvas.height) * h);
        const column = Math.floor(((x + 0.5) / canvas.width) * w);
        return values[starts[i] + row * w + column];
      });
      pixels.data.set(color(here), 4 * (y * canvas.width + x));
    }
  }
  context.putImageData(pixels, 0, 0);
}

function paintTokens(text) {
  const all = data.levels.map((_, level) => level);
  paint(bits(text), all, (here) => {
    const light = Math.pow(here.reduce((sum, each) => sum + each, 0) / here.length, 0.7);
    return [10, 14, 30, 215 * (1 - light)];
  });
}

function paintScores(level) {
  const scores = bytes(data.scores);
  const strongest = Math.max(1, ...scores);
  const levels = level === "all" ? data.levels.map((_, each) => each) : [Number(level)];
  paint(scores, levels, (here) => {
    const heat = Math.max(...here) / strongest;
    return [...data.heat[Math.round(heat * (data.heat.length - 1))], 90 + 110 * heat];
  });
}

function overlay() {
  const mode = document.querySelector("input[name=mode]:checked").value;
  const layer = data.views[current].layers[byId("layer").value];
  byId("layer-choice").hidden = mode !== "kept" && mode !== "fine";
  byId("level-choice").hidden = mode !== "scores";
  byId("overlay").hidden = mode === "plain";
  let said = "";
  if (mode === "kept") {
    paintTokens(layer.bits);
    said = `Layer ${Number(byId("layer").value) + 1} works on ${number(layer.kept)} of ${number(cells)} tokens; ` +
      "the darker, the fewer levels keep the place.";
  } else if (mode === "fine") {
    paintTokens(layer.fine);
    said = `${counted(layer.fine_count, "token")} attend to one another in layer ${Number(byId("layer").value) + 1}.`;
  } else if (mode === "scores") {
    paintScores(byId("level").value);
    said = `Foreground score, 0 to ${data.strongest.toFixed(2)}, which no budget changes.`;
  }
  byId("overlay").setAttribute("aria-label", said);
  return said;
}

function shape(name, attributes, css) {
  const made = document.createElementNS(svgName, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.setAttribute("class", css);
  return made;
}

function nameOf(object) {
  return `${data.classes[object.label].name} ${object.score.toFixed(2)}`;
}

// What is drawn at a budget: its objects, and those of the own budget that are lost.
function drawn() {
  const view = data.views[current];
  const found = view.objects.map((object, index) => ({ view: current, index, object, lost: false }));
  const lost = view.lost.map((index) =>
    ({ view: data.own, index, object: data.views[data.own].objects[index], lost: true }));
  // The largest first: what lies inside another box can still be pointed at.
  const area = ({ object: { box: [x1, y1, x2, y2] } }) => (x2 - x1) * (y2 - y1);
  return [...found, ...lost].sort((one, other) => area(other) - area(one));
}

function same(item) {
  return chosen && item.view === chosen.view && item.index === chosen.index;
}

function drawBoxes() {
  const svg = byId("boxes");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const items = drawn();
  items.forEach((item, position) => {
    const [x1, y1, x2, y2] = item.object.box;
    const area = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    svg.append(shape("rect", area, "under"));
    const box = shape("rect", { ...area, stroke: item.lost ? "#ffffff" : data.classes[item.object.label].color },
      `box${item.lost ? " lost" : ""}${same(item) ? " chosen" : ""}`);
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", nameOf(item.object) + (item.lost ? ", lost at this budget" : ""));
    box.setAttribute("tabindex", position === 0 ? "0" : "-1");
    box.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !pinned && choose(item));
    box.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !pinned && choose(null));
    box.addEventListener("focus", () => choose(item));
    box.addEventListener("click", () => { pinned = true; choose(item); });
    box.addEventListener("keydown", (event) => moveFocus(event, position));
    svg.append(box);
  });
}

function moveFocus(event, position) {
  const boxes = [...byId("boxes").querySelectorAll(".box")];
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") { pinned = false; choose(null); boxes[position].blur(); }
  if (!step) return;
  event.preventDefault();
  const next = boxes[(position + step + boxes.length) % boxes.length];
  boxes.forEach((box) => box.setAttribute("tabindex", box === next ? "0" : "-1"));
  next.focus();
}

function choose(item) {
  chosen = item && { view: item.view, index: item.index };
  const svg = byId("boxes");
  svg.querySelectorAll(".point").forEach((point) => point.remove());
  const items = drawn();
  svg.querySelectorAll(".box").forEach((box, i) => box.classList.toggle("chosen", Boolean(same(items[i]))));
  if (item && item.object.points) drawPoints(item.object.points);
  byId("points-legend").hidden = !(item && item.object.points);
  markRows();
  caption(item);
}

function drawPoints(points) {
  const strongest = Math.max(...points.map((point) => point[3]));
  const scale = width / byId("scene").clientWidth;
  for (const [x, y, level, weight] of points) {
    const radius = (1.5 + 4 * Math.sqrt(weight / strongest)) * scale;
    const place = { cx: (x / 1000) * width, cy: (y / 1000) * height, r: radius };
    byId("boxes").append(shape("circle", { ...place, fill: data.levelColors[level] }, "point"));
  }
}

function caption(item) {
  let said = overlaySaid;
  if (item) {
    const where = item.object.points ? "; points: where its query looked in the last decoder layer" : "";
    const lost = item.lost ? ` is lost at this budget; shown as at ${budgetName(data.views[data.own])}` : "";
    said = `${nameOf(item.object)}${lost}${where}.`;
  }
  byId("caption").textContent = said;
}

let overlaySaid = "";

function startObjects() {
  const table = byId("objects");
  const own = data.views[data.own];
  table.append(row(["object", "score", ...data.views.map((view) => view.budget.toFixed(2))], "th"));
  own.objects.forEach((object, index) => {
    const button = element("button");
    const swatch = element("span", "", { class: "swatch" });
    swatch.style.background = data.classes[object.label].color;
    button.append(swatch, data.classes[object.label].name);
    button.addEventListener("click", () => { pinned = true; choose(itemOf(index)); byId("scene").scrollIntoView({ block: "nearest" }); });
    button.addEventListener("focus", () => choose(itemOf(index)));
    const marks = data.views.map((view) => view.lost.includes(index)
      ? element("span", "lost", { class: "lost-mark" }) : element("span", "✓", { class: "found-mark", "aria-label": "found" }));
    table.append(row([button, object.score.toFixed(2), ...marks]));
  });
  if (!own.objects.length) table.append(row(["nothing found"]));
}

// An object of the own view as it is at the current budget.
function itemOf(index) {
  return drawn().find((item) => item.lost ? item.index === index
    : data.views[current].partners[item.index] === index) || null;
}

function markRows() {
  const own = chosen && (chosen.view === current ? data.views[current].partners[chosen.index] : chosen.index);
  byId("objects").querySelectorAll("tr").forEach((each, i) => each.classList.toggle("chosen", own === i - 1));
}

function startNumbers() {
  const table = byId("numbers");
  const layers = data.views[0].layers.map((_, i) => `layer ${i + 1}`);
  table.append(row(["budget", "time", "objects", "lost", ...layers], "th"));
  for (const view of data.views) {
    const kept = view.layers.map((layer) => number(layer.kept));
    table.append(row([budgetName(view), `${(1000 * view.seconds).toFixed(0)} ms`, view.objects.length, view.lost.length, ...kept]));
  }
}

function show(position) {
  current = position;
  const view = data.views[current];
  const lost = current === data.own ? "" : `, ${view.lost.length} of ${data.views[data.own].objects.length} lost`;
  byId("said").textContent = `${counted(view.objects.length, "object")}${lost}; ${number(view.layers[0].kept)} of ` +
    `${number(cells)} tokens in the first layer; ${(1000 * view.seconds).toFixed(0)} ms`;
  pinned = false;
  overlaySaid = overlay();
  drawBoxes();
  choose(null);
  byId("numbers").querySelectorAll("tr").forEach((each, i) => each.classList.toggle("chosen", i - 1 === current));
}

function start() {
  byId("scene").style.aspectRatio = `${width} / ${height}`;
  byId("scene").style.maxWidth = `calc(80vh * ${width / height})`;
  data.views[data.own].layers.forEach((_, i) => byId("layer").append(element("option", i + 1, { value: i })));
  byId("level").append(element("option", "best of all", { value: "all" }));
  data.levels.forEach(([h, w], i) => byId("level").append(element("option", `${i + 1}: ${w} × ${h}`, { value: i })));
  for (const [mode, there] of [["scores", data.scores !== null], ["fine", data.views[0].layers[0].fine !== null]]) {
    const input = document.querySelector(`input[value=${mode}]`);
    if (!there) input.parentElement.hidden = true;
  }
  const legend = byId("points-legend");
  data.levelColors.forEach((color, i) => {
    const swatch = element("span", "", { class: "swatch" });
    swatch.style.background = color;
    const entry = element("span", `level ${i + 1}${i ? "" : ", the finest"}   `);
    entry.prepend(swatch);
    legend.append(entry, " ");
  });
  startObjects();
  startNumbers();
  const move = startDial(data.views, show);
  for (const id of ["layer", "level"]) byId(id).addEventListener("change", move);
  document.querySelectorAll("input[name=mode]").forEach((each) => each.addEventListener("change", move));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") { pinned = false; choose(null); } });
  move();
}

start();
