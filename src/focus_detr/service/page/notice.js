// What went wrong, with a button that helps, or a count down to the next try.

import { explained } from "./words.js";

const BUTTONS = { retry: "Try again", shrink: "Send a smaller copy", convert: "Send a copy as JPEG", key: "Enter the key" };

export class Notice {
  /** onAction(action): its button was pressed. */
  constructor(container, onAction) {
    this.container = container;
    this.onAction = onAction;
  }

  /** error: see words.js. With seconds to wait, `again` is called after them. */
  say(error, seconds = null, again = null) {
    this.clear();
    const { title, text, action } = explained(error);
    const box = document.createElement("div");
    box.className = "notice";
    const strong = document.createElement("strong");
    strong.textContent = title;
    const words = document.createElement("p");
    words.textContent = text;
    box.append(strong, words);
    if (action) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button";
      button.textContent = BUTTONS[action];
      button.addEventListener("click", () => this.onAction(action));
      box.append(button);
    }
    if (seconds) box.append(this.#countDown(Math.ceil(seconds), again));
    this.container.append(box);
  }

  clear() {
    clearInterval(this.clock);
    this.container.replaceChildren();
  }

  #countDown(seconds, again) {
    const line = document.createElement("p");
    line.className = "small";
    line.setAttribute("aria-live", "off"); // said once, not every second
    const tick = () => {
      line.textContent = `Trying again in ${seconds} s …`;
      if (seconds-- > 0) return;
      clearInterval(this.clock);
      again();
    };
    tick();
    this.clock = setInterval(tick, 1000);
    return line;
  }
}
