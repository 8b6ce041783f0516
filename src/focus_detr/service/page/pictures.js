// Pictures from where people have them: files, the clipboard, another address of this server, a camera.

export class PictureError extends Error {}

/** A picture that the browser can show; its address is given back by `release`. */
export async function pictureOf(blob, name, credit = "") {
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    if (!image.naturalWidth) throw new Error("no pixels");
  } catch {
    URL.revokeObjectURL(url);
    throw new PictureError(`${name || "That"} is not a picture that can be opened here.`);
  }
  return { blob, name: name || "picture", credit, url, image, width: image.naturalWidth, height: image.naturalHeight };
}

export function release(picture) {
  if (picture) URL.revokeObjectURL(picture.url);
}

/** The picture at an address of this server. */
export async function pictureAt({ url, name, credit }) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new PictureError(`${name} cannot be had: the server does not answer.`);
  }
  if (!response.ok) throw new PictureError(`${name} is not there any more.`);
  return pictureOf(await response.blob(), name, credit);
}

/** The first picture of what was dropped or pasted; null where there is none. */
export function fileOf(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0] ?? null;
}

/** The same picture with fewer pixels, for a server that finds it too large. */
export async function shrunk(picture, longest = 2048) {
  const scale = Math.min(1, longest / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // as the model sees what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  return pictureOf(blob, picture.name.replace(/(\.\w+)?$/, ".jpg"), picture.credit);
}
