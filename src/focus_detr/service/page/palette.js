// Colors of classes: those of the pictures that the package draws (focus_detr/pictures/palette.py).

const CLASSES = [
  [230, 57, 70], [0, 150, 136], [255, 183, 3], [58, 134, 255], [155, 93, 229], [120, 190, 33],
  [251, 111, 146], [0, 187, 249], [244, 124, 32], [38, 70, 183], [177, 112, 61], [0, 104, 71],
];

/** The color [red, green, blue] of a class: hand-picked for the first twelve, then hues far apart. */
export function classColor(label) {
  if (label < CLASSES.length) return CLASSES[label];
  const step = label - CLASSES.length;
  const hue = (0.08 + step * 0.618034) % 1;
  return fromHls(hue, [0.42, 0.58, 0.34][step % 3], [0.85, 0.65][step % 2]);
}

/** Black or white, whichever is read more easily on a color (WCAG's contrast). */
export function inkOn(color) {
  const [red, green, blue] = color.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? "#000" : "#fff";
}

export function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

function fromHls(hue, lightness, saturation) {
  const high = lightness <= 0.5 ? lightness * (1 + saturation) : lightness + saturation - lightness * saturation;
  const low = 2 * lightness - high;
  return [hue + 1 / 3, hue, hue - 1 / 3].map((third) => {
    const at = ((third % 1) + 1) % 1;
    let value = low;
    if (at < 1 / 6) value = low + (high - low) * at * 6;
    else if (at < 1 / 2) value = high;
    else if (at < 2 / 3) value = low + (high - low) * (2 / 3 - at) * 6;
    return Math.round(255 * value);
  });
}
