/**
 * The calibration curve: how the scores of normal images lie, and where one image's score lies among them. The area to
 * the right of the score is its p-value; from the dashed line on, an image raises the alarm.
 */

import { h, svg } from "./dom.js";
import * as words from "./words.js";

const BINS = 40;
const [WIDTH, HEIGHT, TOP, BOTTOM, SIDE] = [340, 132, 26, 98, 6];

/**
 * Return a figure. `quantiles` are evenly spaced from the least calibration score to the greatest; `part` is a model's
 * part of the answer; `threshold` the p-value at or below which it raises the alarm.
 */
export function curve(quantiles, part, threshold) {
  const { score, p_value: p, calibration_n: n } = part;
  const critical = quantile(quantiles, 1 - threshold);
  const axis = scale(quantiles, score);
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img", "aria-label": described(quantiles, part, critical) },
    svg("rect", box("alarm-zone", axis(critical), WIDTH - SIDE, TOP, BOTTOM)),
    bars(quantiles, score, axis),
    svg("line", { class: "axis", x1: SIDE, x2: WIDTH - SIDE, y1: BOTTOM, y2: BOTTOM }),
    svg("line", { class: "critical", x1: axis(critical), x2: axis(critical), y1: TOP, y2: BOTTOM }),
    score === null ? null : mark(score, axis),
    ...ticks(quantiles, axis),
    svg("text", { x: WIDTH / 2, y: HEIGHT - 3, class: "title", "text-anchor": "middle" }, "score, stranger to the right →"),
  );
  return h(
    "figure",
    { class: "calibration" },
    drawing,
    h(
      "figcaption",
      {},
      key("normal", `scores of ${words.count(n, "normal image")}`),
      key("tail", `at least as strange: p-value ${words.pValue(p)}`),
      key("critical", `alarm from here: p-value ${words.pValue(threshold)}`),
    ),
  );
}

/** The score below which this share of the calibration scores lies; linear between the quantiles. */
export function quantile(quantiles, level) {
  const place = Math.min(Math.max(level, 0), 1) * (quantiles.length - 1);
  const below = Math.min(Math.floor(place), quantiles.length - 2);
  return quantiles[below] + (place - below) * (quantiles[below + 1] - quantiles[below]);
}

/** The share of calibration scores at or below a score, in [0, 1]: the inverse of `quantile`. */
export function shareBelow(quantiles, score) {
  const last = quantiles.length - 1;
  if (score >= quantiles[last]) return 1;
  const above = quantiles.findIndex((value) => value > score);
  if (above === 0) return 0;
  const step = (score - quantiles[above - 1]) / (quantiles[above] - quantiles[above - 1]);
  return (above - 1 + step) / last;
}

/** Map scores to x; the axis holds all quantiles, and the score where it is not further off than they are wide. */
function scale(quantiles, score) {
  const [least, greatest] = [quantiles[0], quantiles.at(-1)];
  const width = greatest - least || 1;
  const shown = score ?? least;
  const from = Math.max(Math.min(least, shown), least - width) - 0.02 * width;
  const to = Math.min(Math.max(greatest, shown), greatest + width) + 0.06 * width;
  return (value) => {
    const share = (Math.min(Math.max(value, from), to) - from) / (to - from);
    return SIDE + share * (WIDTH - 2 * SIDE);
  };
}

function bars(quantiles, score, axis) {
  const [least, greatest] = [quantiles[0], quantiles.at(-1)];
  const width = (greatest - least) / BINS;
  if (width === 0) return svg("rect", box("normal", axis(least) - 2, axis(least) + 2, TOP, BOTTOM));
  const edges = Array.from({ length: BINS + 1 }, (_, bin) => least + bin * width);
  const below = edges.map((edge, bin) => (bin === BINS ? 1 : shareBelow(quantiles, edge)));
  const masses = below.slice(1).map((share, bin) => share - below[bin]);
  const tallest = Math.max(...masses);
  return masses.flatMap((mass, bin) => {
    const top = BOTTOM - (mass / tallest) * (BOTTOM - TOP);
    const [from, to] = [edges[bin], edges[bin + 1]];
    const cut = score === null ? to : Math.min(Math.max(score, from), to);
    return [["normal", from, cut], ["tail", cut, to]]
      .filter(([, start, stop]) => stop > start)
      .map(([kind, start, stop]) => svg("rect", box(kind, axis(start), axis(stop), top, BOTTOM)));
  });
}

function mark(score, axis) {
  const x = axis(score);
  const anchor = x < 60 ? "start" : x > WIDTH - 60 ? "end" : "middle";
  return svg(
    "g",
    { class: "mark" },
    svg("line", { x1: x, x2: x, y1: TOP - 6, y2: BOTTOM }),
    svg("path", { d: `M${x - 5} ${TOP - 9}h10l-5 8z` }),
    svg("text", { x, y: 13, "text-anchor": anchor }, `this image: ${words.score(score)}`),
  );
}

function ticks(quantiles, axis) {
  const ends = [quantiles[0], quantiles.at(-1)];
  return ends.map((value, end) => {
    const x = axis(value);
    const anchor = end === 0 ? "start" : x > WIDTH - 30 ? "end" : "middle";
    return svg("text", { x, y: BOTTOM + 15, "text-anchor": anchor }, words.score(value));
  });
}

function box(kind, left, right, top, bottom) {
  return { class: kind, x: left, y: top, width: Math.max(right - left, 0), height: Math.max(bottom - top, 0) };
}

function key(kind, text) {
  return h("span", { class: `key-of ${kind}` }, text);
}

function described(quantiles, { score, p_value: p }, critical) {
  const middle = words.score(quantile(quantiles, 0.5));
  return (
    `Calibration curve. Scores of normal images lie from ${words.score(quantiles[0])} to ` +
    `${words.score(quantiles.at(-1))}, half of them below ${middle}. This image: ${words.score(score)}, ` +
    `p-value ${words.pValue(p)}. Alarm from about ${words.score(critical)}.`
  );
}
