// The dialog that asks for the key of a service that wants one.

import { setKey } from "./engine.js";

/** then(): a key was given. */
export function askKey(then) {
  const dialog = document.getElementById("key-dialog");
  const input = document.getElementById("key");
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "use" || !input.value) return;
    setKey(input.value);
    input.value = "";
    then();
  };
  dialog.showModal();
}
