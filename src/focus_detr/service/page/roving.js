// One tab stop for many things of a kind: the arrow keys walk from one to the next.

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

export function roving(container, selector) {
  const items = () => [...container.querySelectorAll(selector)].filter((item) => !item.hidden);
  const stopAt = (item) => {
    for (const each of items()) each.tabIndex = each === item ? 0 : -1;
  };
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    let next = null;
    if (event.key in STEPS) next = all[(at + STEPS[event.key] + all.length) % all.length];
    else if (event.key === "Home") next = all[0];
    else if (event.key === "End") next = all[all.length - 1];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  container.addEventListener("focusin", (event) => {
    if (event.target.matches(selector)) stopAt(event.target);
  });
  /** To be called when the things have changed. */
  return () => {
    const all = items();
    stopAt(all.find((item) => item === document.activeElement) ?? all[0]);
  };
}
