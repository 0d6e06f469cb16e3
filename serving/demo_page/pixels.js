/**
 * Pixels: an image fitted to a model's input, and its views, made as the graph makes them.
 *
 * Images here are square: {size, data}, `data` a Uint32Array of size * size pixels, rows first.
 */

const SMALLEST_THUMBNAIL = 48;

/** Decode a file, upright, its colours as stored; null where the browser cannot (TIFF, a damaged file). */
export async function decode(file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    return null;
  }
}

/**
 * Fit a bitmap as the server does: over white, shorter side to `shorter_side`, centre crop to `size`. The browser's own
 * filter resizes, so shades differ a little; an image of the right size is passed untouched.
 */
export function fit(bitmap, { size, shorter_side: shorterSide }) {
  const context = blank(size);
  const scale = Math.min(bitmap.width, bitmap.height) / shorterSide;
  const starts = [bitmap.width, bitmap.height].map((length) => {
    const resized = Math.max(shorterSide, Math.round(length / scale));
    return Math.floor((resized - size) / 2) * (length / resized);
  });
  if (bitmap.width === size && bitmap.height === size) context.drawImage(bitmap, 0, 0);
  else context.drawImage(bitmap, ...starts, size * scale, size * scale, 0, 0, size, size);
  return taken(context, size);
}

/** An upward arrow, in place of an image that the browser cannot show: its views still tell what was done to them. */
export function arrow(size) {
  const context = blank(size);
  context.fillStyle = "#8a93a0";
  context.fillRect(0, 0, size, size);
  context.scale(size, size);
  context.fillStyle = "#fff";
  context.beginPath();
  for (const [x, y] of [[0.5, 0.15], [0.78, 0.5], [0.6, 0.5], [0.6, 0.85], [0.4, 0.85], [0.4, 0.5], [0.22, 0.5]]) {
    context.lineTo(x, y);
  }
  context.fill();
  return taken(context, size);
}

/** Make one view: rotated, then translated, or the other way round (`order`); the resize is left to `draw`. */
export function view(image, { rotation, vertical, horizontal }, order = "rotate_translate") {
  return order === "rotate_translate"
    ? translate(rotate(image, rotation), vertical, horizontal)
    : rotate(translate(image, vertical, horizontal), rotation);
}

/** Turn counter-clockwise by quarter turns. */
export function rotate({ size, data }, quarterTurns) {
  const last = size - 1;
  const source = [
    (x, y) => y * size + x,
    (x, y) => x * size + (last - y),
    (x, y) => (last - y) * size + (last - x),
    (x, y) => (last - x) * size + y,
  ][quarterTurns % 4];
  return mapped(size, data, source);
}

/** Move content down by `vertical` and right by `horizontal` pixels; the border reflected, its edge not repeated. */
export function translate({ size, data }, vertical, horizontal) {
  const reflected = (index) => (index < 0 ? -index : index >= size ? 2 * (size - 1) - index : index);
  return mapped(size, data, (x, y) => reflected(y - vertical) * size + reflected(x - horizontal));
}

/** Draw an image on a canvas of its size; with a `resize` other than 1, scaled by it and brought back. */
export function draw(canvas, { size, data }, resize = 1) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  context.putImageData(new ImageData(new Uint8ClampedArray(data.buffer), size, size), 0, 0);
  if (resize === 1) return;
  const scaled = Math.max(1, Math.round(size * resize));
  const small = blank(scaled);
  small.drawImage(canvas, 0, 0, scaled, scaled);
  context.drawImage(small.canvas, 0, 0, size, size);
}

/**
 * How many of the model's pixels a thumbnail's pixel stands for: 1 for small inputs, more for large ones, such that
 * every translation stays a whole number of pixels.
 */
export function reduction(size, grid) {
  const shifts = [...grid.vertical, ...grid.horizontal];
  for (let factor = Math.floor(size / SMALLEST_THUMBNAIL); factor > 1; factor -= 1) {
    if (size % factor === 0 && shifts.every((shift) => shift % factor === 0)) return factor;
  }
  return 1;
}

function mapped(size, data, source) {
  const made = new Uint32Array(size * size);
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) made[y * size + x] = data[source(x, y)];
  }
  return { size, data: made };
}

function blank(size) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, size, size);
  return context;
}

function taken(context, size) {
  return { size, data: new Uint32Array(context.getImageData(0, 0, size, size).data.buffer) };
}
