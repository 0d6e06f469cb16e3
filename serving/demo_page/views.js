/** The views of one image as one network saw them: thumbnails by rotation and translation, and how well it knew each. */

import { bars } from "./bars.js";
import { colour, gradient } from "./colours.js";
import { quantile } from "./curve.js";
import { freshId, h } from "./dom.js";
import { blocks, cells, overall } from "./grid.js";
import { arrow, draw, fit, reduction, view } from "./pixels.js";
import * as words from "./words.js";

/**
 * Return the section of one model's views. `part` is its part of the answer, with `views`; `model` its entry of /models;
 * `bitmap` the decoded image, or null where the browser cannot show it.
 */
export function viewsSection(part, model, bitmap) {
  const grid = part.views;
  const all = cells(grid);
  const image = fitted(bitmap, model.fitting, grid);
  const worst = worstHead(grid.heads, all);
  const chosen = leastRecognised(all, worst);
  const inspected = h("div", { class: "inspected" });
  const thumbnails = all.map((cell) => thumbnail(cell, image, model.view_grid.order));
  const paint = (head) => all.forEach((cell, index) => thumbnails[index].paint(probability(cell, head)));
  const inspect = (cell) => inspected.replaceChildren(...inspection(cell, thumbnails[all.indexOf(cell)].pixels));
  const place = new Map(all.map((cell, index) => [cell, thumbnails[index]]));
  const name = freshId("views");
  for (const [cell, { input }] of place) {
    input.name = name;
    input.checked = cell === chosen;
    input.addEventListener("change", () => inspect(cell));
  }
  paint(worst);
  inspect(chosen);
  const titled = freshId("views-title");
  return h(
    "section",
    { class: "views", "aria-labelledby": titled },
    h("h4", { id: titled }, `What ${part.model} recognised`),
    h("p", {}, summary(all, part, model, worst)),
    h("p", { class: "hint" }, "Rotated counter-clockwise; each view stands where its content was moved to."),
    bitmap === null ? h("p", { class: "hint" }, "This browser cannot show the file: an arrow stands in for it.") : null,
    grid.heads.length > 1 ? headChoice(grid.heads, all, worst, paint) : null,
    h(
      "div",
      { class: "views-body" },
      h(
        "div",
        { class: "blocks", role: "radiogroup", "aria-label": `The ${all.length} views of ${part.model}` },
        blocks(all).map((block) => blockFigure(block, place)),
      ),
      inspected,
    ),
    legend(),
  );
}

/** Return the image on which the views are drawn, `step` of the model's pixels to each of its own. */
function fitted(bitmap, fitting, grid) {
  const step = reduction(fitting.size, grid);
  const size = fitting.size / step;
  const pixels = bitmap === null ? arrow(size) : fit(bitmap, { size, shorter_side: fitting.shorter_side / step });
  return { pixels, step };
}

function thumbnail(cell, { pixels, step }, order) {
  const moved = { ...cell, vertical: cell.vertical / step, horizontal: cell.horizontal / step };
  const canvas = h("canvas", { "aria-hidden": "true" });
  const made = view(pixels, moved, order);
  draw(canvas, made, cell.resize);
  const text = `${words.transformation(cell)}: ${words.recognition(cell.heads)}`;
  const input = h("input", { type: "radio", "aria-label": text });
  const chip = h("span", { class: "chip", "aria-hidden": "true" });
  const element = h("label", { class: "view", title: text }, input, canvas, chip);
  const paint = (share) => {
    const { background, text: ink } = colour(share);
    element.style.setProperty("--recognised", background);
    element.style.setProperty("--on-recognised", ink);
    chip.textContent = words.share(share);
  };
  return { element, input, paint, pixels: made };
}

function blockFigure({ rotation, resize, columns, cells: shown }, place) {
  const scaled = resize === 1 ? "" : `, scaled by ${resize}`;
  return h(
    "figure",
    { class: "block" },
    h("figcaption", {}, rotation ? `Rotated ${rotation * 90}°${scaled}` : `Not rotated${scaled}`),
    h("div", { class: "block-cells", style: { "--columns": columns } }, shown.map((cell) => place.get(cell).element)),
  );
}

function inspection(cell, pixels) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  draw(canvas, pixels, cell.resize);
  const did = words.transformation(cell);
  return [
    canvas,
    h(
      "div",
      {},
      h("p", { class: "inspected-title" }, did[0].toUpperCase() + did.slice(1)),
      h("p", { class: "hint" }, "How probable the network found what was done:"),
    ),
    bars(headShares(cell.heads), { ordered: false, format: words.share }),
  ];
}

function headShares(heads) {
  return Object.entries(heads).map(([label, share]) => ({ label, share }));
}

function headChoice(heads, all, chosen, paint) {
  const name = freshId("head");
  const option = (head, text) => {
    const input = h("input", { type: "radio", name, checked: head === chosen });
    input.addEventListener("change", () => paint(head));
    return h("label", {}, input, h("span", {}, `${text} ${words.share(overall(all, head))}`));
  };
  return h(
    "fieldset",
    { class: "heads" },
    h("legend", {}, "Colour by how well it recognised"),
    option(null, "all"),
    heads.map((head) => option(head, head)),
  );
}

/** Say what the network recognised beside what it does of a normal image, and where it failed most. */
function summary(all, part, model, worst) {
  const { heads } = part.views;
  const normal = quantile(model.calibration.quantiles, 0.5);
  const usual =
    model.score === "transformation" ? `; of a normal image, ${words.share(-normal / (all.length * heads.length))}` : "";
  const known = `The network recognised ${words.share(overall(all))} of what was done to the image${usual}.`;
  const least = leastRecognised(all, worst);
  const where = `${words.share(probability(least, worst))} in the view ${words.transformation(least)}`;
  return `${known} Least of all the ${worst}: ${words.share(overall(all, worst))} on average, ${where}.`;
}

function worstHead(heads, all) {
  return heads.reduce((worst, head) => (overall(all, head) < overall(all, worst) ? head : worst));
}

function leastRecognised(all, head) {
  return all.reduce((least, cell) => (probability(cell, head) < probability(least, head) ? cell : least));
}

/** The probability of a cell's true transformation by one head, or its mean over all where `head` is null. */
function probability(cell, head) {
  return head === null ? cell.recognised : cell.heads[head];
}

function legend() {
  return h(
    "div",
    { class: "legend" },
    h("span", {}, "0 not recognised"),
    h("span", { class: "scale", "aria-hidden": "true", style: { "background-image": gradient() } }),
    h("span", {}, "1 recognised"),
  );
}
