// Where pictures come from: a file that is chosen, dropped or pasted, or the camera.

import { fromCamera } from "./camera.js";
import { fileOf, pictureOf } from "./pictures.js";

const at = (id) => document.getElementById(id);

/** onPicture(promise of a picture) for each that comes; onLive(Frames) where the camera is to be watched. */
export function listen(onPicture, onLive) {
  const take = (file) => file && onPicture(pictureOf(file, file.name));
  for (const id of ["choose", "start-choose"]) at(id).addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", () => {
    take(at("file").files[0]);
    at("file").value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => take(fileOf(event.clipboardData)));
  listenToDrops(take);
  for (const id of ["camera", "start-camera"]) {
    at(id).addEventListener("click", async () => {
      const given = await fromCamera();
      if (given?.picture) onPicture(given.picture);
      if (given?.live) onLive(given.live);
    });
  }
}

function listenToDrops(take) {
  const veil = at("veil");
  let depth = 0; // of elements that a dragged file has entered and not left
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (carriesFile(event)) veil.hidden = ++depth === 0;
  });
  document.addEventListener("dragleave", (event) => {
    if (carriesFile(event)) veil.hidden = --depth <= 0;
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    take(fileOf(event.dataTransfer));
  });
}
