// One picture with the boxes of one model at one budget: two of them stand side by side to compare.

import * as engine from "./engine.js";
import { Boxes } from "./boxes.js";
import { drawHeat, drawLooked, imageAt } from "./drawing.js";
import { drawMasks } from "./masks.js";
import { pairs } from "./matching.js";
import { Notice } from "./notice.js";
import { classColor } from "./palette.js";
import { duration, percent } from "./words.js";

const LOWEST = 0.05; // what the engine is asked for, so that the threshold acts here at once
const PAUSE = 250; // milliseconds that a slider rests before it counts
const TRIES = 5;
const AUTO = "auto"; // a budget that the model chooses for each picture

export class Pane extends EventTarget {
  /** events: "answer", "look" (detail: detection or null), "model" (another was chosen), "action" (detail: what a notice's button says). */
  constructor(models, line, { model = null, budget = null } = {}) {
    super();
    this.models = models;
    this.line = line;
    this.model = model ?? models.find((each) => each.default) ?? models[0];
    this.budget = budget;
    this.chosen = null; // by the model, where the budget is "auto"
    this.picture = null;
    this.answer = null;
    this.heat = false;
    this.element = document.getElementById("pane-template").content.cloneNode(true).firstElementChild;
    const part = (selector) => this.element.querySelector(selector);
    this.parts = {
      letter: part(".pane-letter"), model: part("select"), modelLabel: part(".pane-model"),
      budgetRow: part(".pane-budget"), budget: part("input"), budgetSaid: part("output"),
      auto: part(".auto"), reset: part(".reset"),
      frame: part(".picture"), photo: part(".photo"), heat: part(".heat"), looked: part(".looked"), masks: part(".masks"), busy: part(".busy"),
      meter: part(".meter span"),
    };
    this.boxes = new Boxes(part(".boxes"), (detection) => this.look(detection));
    this.notice = new Notice(part(".pane-notice"), (action) => this.#act(action));
    this.#wire();
  }

  /** The letter that tells two panes apart; null for a pane alone. */
  set letter(letter) {
    this.parts.letter.hidden = letter === null;
    this.parts.letter.textContent = letter ?? "";
    this.element.setAttribute("aria-label", letter ? `Picture ${letter}` : "Picture");
  }

  show(picture) {
    this.answer = this.chosen = null;
    this.#setPicture(picture);
    this.boxes.show([], picture);
    this.parts.heat.hidden = true;
    this.#figures();
    return this.ask();
  }

  /**
   * As `show`, but what is there stays until the answer comes, as for pictures one after the other.
   * False where another question came first.
   */
  async follow(picture) {
    this.asking?.abort();
    const { signal } = (this.asking = new AbortController());
    let answer;
    try {
      answer = await this.#question({ heatmap: this.heat && this.model.heatmap }, signal, picture);
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    }
    if (signal.aborted) return false;
    this.#setPicture(picture);
    this.#take(answer);
    this.#rest();
    return true;
  }

  /** Ask the engine; an earlier question of this pane that is not answered yet is dropped. */
  async ask(tries = TRIES) {
    if (!this.picture) return;
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.parts.busy.hidden = false;
    this.element.setAttribute("aria-busy", "true");
    this.notice.clear();
    try {
      const answer = await this.#question({ heatmap: this.heat && this.model.heatmap }, asking.signal);
      if (asking.signal.aborted) return;
      this.#take(answer);
    } catch (error) {
      if (asking.signal.aborted || error.name === "AbortError") return;
      const wait = error.retryAfter && tries > 1 ? error.retryAfter : null;
      this.notice.say(error, wait, () => this.ask(tries - 1));
    }
    if (this.asking === asking) this.#rest();
  }

  /** Show the heat map, or not. */
  async setHeat(on) {
    this.heat = on;
    if (on && this.model.heatmap && this.answer && !this.answer.heatmap) await this.ask();
    else this.#showHeat();
  }

  /** What scores enough; until the threshold is moved by hand, a class may have one of its own. */
  reaching({ threshold, moved }) {
    const own = moved ? {} : (this.model.class_thresholds ?? {});
    return (this.answer?.detections ?? []).filter((each) => each.score >= (own[each.class] ?? threshold));
  }

  /** What is shown: of the class and score that are wanted. */
  shown(view) {
    return this.reaching(view).filter((each) => !view.hidden.has(each.class));
  }

  render(view, alone = null) {
    const shown = this.shown(view);
    this.boxes.filter(new Set(shown), { labels: view.labels, alone });
    this.#showMasks(shown);
    if (this.looking && !shown.includes(this.looking)) this.look(null);
    this.element.querySelector('[data-figure="boxes"]').textContent = this.answer ? shown.length : "–";
  }

  /** Highlight a detection, and show where its query looked. */
  async look(detection) {
    if (detection === this.looking) return;
    this.looking = detection;
    this.boxes.highlight(detection);
    this.dispatchEvent(new CustomEvent("look", { detail: detection }));
    const { looked } = this.parts;
    looked.width = 0;
    if (!detection) return;
    const { answer, picture } = this;
    const points = detection.where ?? (await this.#places(answer, detection));
    if (points && this.looking === detection) drawLooked(looked, points, classColor(detection.label), picture);
  }

  remove() {
    this.asking?.abort();
    this.places?.abort();
    this.notice.clear();
    this.element.remove();
  }

  /** Where the queries of an answer looked; asked once, when somebody wants to know. */
  async #places(answer, detection) {
    if (this.model.where === false) return null;
    answer.places ??= this.#askPlaces(answer);
    try {
      await answer.places;
    } catch (error) {
      if (error.name === "AbortError") answer.places = null; // another question came first
    }
    return detection.where;
  }

  async #askPlaces(answer) {
    this.places?.abort();
    this.places = new AbortController();
    const again = scaled(await this.#question({ where: true }, this.places.signal), this.picture);
    for (const [detection, same] of pairs(answer.detections, again.detections)) detection.where = same.where;
  }

  /** What was asked has been answered, or not. */
  #rest() {
    this.parts.busy.hidden = true;
    this.element.removeAttribute("aria-busy");
    this.dispatchEvent(new Event("answer"));
  }

  #setPicture(picture) {
    this.picture = picture;
    this.parts.photo.src = picture.url;
    this.parts.photo.alt = picture.name;
    this.parts.frame.style.setProperty("--ratio", picture.width / picture.height);
  }

  /** An answer, its heat map decoded: what is shown of it changes at once. */
  async #question(options, signal, picture = this.picture) {
    const { model, budget } = this;
    const all = { model: model.name, threshold: LOWEST, budget, ...options, signal };
    const answer = await this.line.ask(() => engine.detect(picture, all), signal);
    answer.heatmap &&= await imageAt(answer.heatmap);
    return answer;
  }

  #take(answer) {
    this.answer = scaled(answer, this.picture);
    this.chosen = answer.budget;
    this.looking = null;
    this.parts.looked.width = 0;
    this.boxes.show(this.answer.detections, this.picture);
    this.#figures();
    this.#showHeat();
  }

  #showMasks(shown) {
    const { masks } = this.parts;
    masks.hidden = !shown.some(({ mask }) => mask);
    if (!masks.hidden) drawMasks(masks, shown, this.answer.image);
  }

  #showHeat() {
    const wanted = this.heat && Boolean(this.answer?.heatmap);
    if (wanted) drawHeat(this.parts.heat, this.answer.heatmap);
    this.parts.heat.hidden = !wanted;
  }

  #figures() {
    const { answer } = this;
    const say = (name, text) => (this.element.querySelector(`[data-figure="${name}"]`).textContent = text);
    say("kept", answer?.kept == null ? "–" : percent(answer.kept));
    this.parts.meter.style.width = answer?.kept == null ? "0" : percent(answer.kept, 1).replace(" ", "");
    const time = answer?.milliseconds;
    say("time", time ? duration(time.model) : "–");
    const all = time ? Object.entries(time).map(([name, value]) => `${name} ${duration(value)}`) : [];
    this.element.querySelector('[data-figure="time"]').title = all.join(", ");
    this.#sayBudget();
  }

  #sayBudget() {
    const { accepted, auto: chooses = false, default: own, smallest = 0.05, choices } = this.model.budget;
    const { budgetRow, budget, budgetSaid, auto, reset } = this.parts;
    budgetRow.hidden = !accepted;
    if (!accepted) return;
    auto.hidden = !chooses;
    auto.setAttribute("aria-pressed", String(this.budget === AUTO));
    const asked = this.budget ?? own;
    const value = asked === AUTO ? (this.chosen ?? 1) : (asked ?? this.answer?.kept ?? 1);
    // Of an exported model the slider walks through those that there are.
    const scale = choices ? { min: 0, max: choices.length - 1, step: 1 } : { min: smallest, max: 1, step: 0.05 };
    Object.assign(budget, scale);
    budget.value = choices ? choices.indexOf(nearest(choices, value)) : value;
    const share = this.budget === AUTO ? this.chosen : this.budget;
    const said = this.budget === null ? "model’s own" : share === null ? "…" : percent(share);
    budgetSaid.textContent = said;
    budget.setAttribute("aria-valuetext", said);
    reset.hidden = this.budget === null;
  }


  #wire() {
    const { model, modelLabel, budget, auto, reset, frame } = this.parts;
    model.replaceChildren(...this.models.map((each) => new Option(each.name, each.name, false, each === this.model)));
    modelLabel.classList.toggle("single", this.models.length < 2);
    model.addEventListener("change", () => {
      this.model = this.models.find((each) => each.name === model.value);
      this.budget = null;
      this.#sayBudget();
      this.dispatchEvent(new Event("model"));
      this.ask();
    });
    budget.id = `budget-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    this.element.querySelector(".pane-budget label").htmlFor = budget.id;
    budget.addEventListener("input", () => {
      const { choices } = this.model.budget;
      this.#setBudget(choices ? choices[Number(budget.value)] : Number(budget.value), PAUSE);
    });
    auto.addEventListener("click", () => this.#setBudget(this.budget === AUTO ? null : AUTO, 0));
    reset.addEventListener("click", () => {
      this.#setBudget(null, 0);
      budget.focus();
    });
    frame.addEventListener("pointerleave", () => this.look(null));
    this.#sayBudget();
  }

  #setBudget(value, pause) {
    this.budget = value;
    this.chosen = null;
    this.#sayBudget();
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.ask(), pause);
  }

  #act(action) {
    if (action === "retry") this.ask();
    else this.dispatchEvent(new CustomEvent("action", { detail: action }));
  }
}

/** Of the budgets that there are, the one nearest to a share. */
export function nearest(choices, share) {
  return choices.reduce((best, each) => (Math.abs(each - share) < Math.abs(best - share) ? each : best));
}

/** An answer with its boxes in pixels of the picture as it is shown, which the server may have had smaller. */
function scaled(answer, { width, height }) {
  const [x, y] = [width / answer.image.width, height / answer.image.height];
  for (const each of answer.detections) {
    each.box = each.box.map((value, index) => value * (index % 2 ? y : x));
    each.where = each.where?.map(([left, top, weight]) => [left * x, top * y, weight]) ?? null;
  }
  return answer;
}
