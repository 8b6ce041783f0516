// Findings of the severities that are ticked; the page reads the same without.
for (const box of document.querySelectorAll(".choices input")) {
  box.addEventListener("change", () => {
    for (const each of document.querySelectorAll(`[data-severity=${box.value}]`)) each.hidden = !box.checked;
  });
}
