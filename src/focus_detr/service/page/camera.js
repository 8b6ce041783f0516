// The camera's dialog: a view, the picture that is taken from it, and pictures one after the other.

import { pictureOf } from "./pictures.js";

/** What the dialog gives: { picture }, { live: Frames }, or null where it was closed without either. */
export function fromCamera() {
  const dialog = document.getElementById("camera-dialog");
  const view = document.getElementById("camera-view");
  const said = document.getElementById("camera-said");
  const take = document.getElementById("camera-take");
  const watch = document.getElementById("camera-live");
  const close = document.getElementById("camera-close");
  let stream = null;
  let open = true;

  return new Promise((done) => {
    const end = (result) => {
      if (!open) return;
      open = false;
      if (!result?.live) for (const track of stream?.getTracks() ?? []) track.stop();
      view.srcObject = null;
      take.onclick = watch.onclick = close.onclick = dialog.onclose = null;
      if (dialog.open) dialog.close();
      done(result);
    };
    take.disabled = watch.disabled = true;
    said.textContent = "Waiting for the camera …";
    take.onclick = async () => end({ picture: await still(view) });
    watch.onclick = () => end({ live: new Frames(stream) });
    close.onclick = () => end(null);
    dialog.onclose = () => end(null);
    dialog.showModal();
    start(view).then(
      (started) => {
        stream = started;
        if (!open) for (const track of stream.getTracks()) track.stop();
        said.textContent = "";
        take.disabled = watch.disabled = false;
        if (open) take.focus();
      },
      (error) => {
        said.textContent = reason(error);
      },
    );
  });
}

/** Pictures of a camera, the newest whenever one is asked for. */
export class Frames {
  constructor(stream) {
    this.stream = stream;
    this.view = document.createElement("video");
    this.view.muted = this.view.playsInline = true;
    this.view.srcObject = stream;
  }

  async next() {
    await this.view.play();
    return still(this.view);
  }

  get running() {
    return this.stream.getTracks().some((track) => track.readyState === "live");
  }

  stop() {
    for (const track of this.stream.getTracks()) track.stop();
  }
}

async function start(view) {
  if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
  const wanted = { facingMode: "environment", width: { ideal: 1280 } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
  view.srcObject = stream;
  await view.play();
  return stream;
}

async function still(view) {
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  return pictureOf(blob, "camera.jpg");
}

function reason(error) {
  if (error.name === "NotAllowedError") return "The browser was told not to let this page use the camera.";
  if (error.name === "NotFoundError") return "There is no camera here.";
  if (error.name === "SecurityError") return "Browsers give the camera to pages of https and of this computer alone.";
  return `The camera cannot be used: ${error.message}`;
}
