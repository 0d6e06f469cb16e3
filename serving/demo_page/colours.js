/**
 * The colour of a probability: viridis, from dark violet (0, not recognised) to yellow (1). It grows evenly in lightness,
 * so that it keeps its order with each kind of colour blindness, and in grey.
 */

const STOPS = [
  [68, 1, 84],
  [72, 40, 120],
  [62, 74, 137],
  [49, 104, 142],
  [38, 130, 142],
  [31, 158, 137],
  [53, 183, 121],
  [109, 205, 89],
  [180, 222, 44],
  [253, 231, 37],
];

/** Return {background, text}: CSS colours for a probability in [0, 1], and for text on it (contrast 4.5 or more). */
export function colour(probability) {
  const place = Math.min(Math.max(probability ?? 0, 0), 1) * (STOPS.length - 1);
  const below = Math.min(Math.floor(place), STOPS.length - 2);
  const rgb = STOPS[below].map((value, channel) =>
    Math.round(value + (place - below) * (STOPS[below + 1][channel] - value)),
  );
  const light = luminance(rgb);
  return { background: `rgb(${rgb.join(" ")})`, text: light > 0.179 ? "#000" : "#fff" };
}

/** A CSS gradient through the whole scale. */
export function gradient() {
  return `linear-gradient(to right, ${STOPS.map((stop) => `rgb(${stop.join(" ")})`).join(", ")})`;
}

/** Relative luminance of an sRGB colour (WCAG 2), in [0, 1]. */
function luminance(rgb) {
  const [red, green, blue] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
