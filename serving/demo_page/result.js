/** One image's result: what it is, how strange each model finds it, and the views that say why. */

import { bars } from "./bars.js";
import { curve } from "./curve.js";
import { freshId, h } from "./dom.js";
import { decode, draw, fit } from "./pixels.js";
import { viewsSection } from "./views.js";
import * as words from "./words.js";

const PREVIEW = 96;
const FORMULAS = {
  kl_rotation: "score = rotation loss − KL from uniform",
  kl: "score = − KL from uniform",
  msp: "score = − highest probability",
};

/** Return the element of an image that is not scored yet: {element, heading}. `remove` is called by its button. */
export function pending(name, remove) {
  const id = freshId("result");
  const heading = h("h3", { id, tabindex: "-1" }, name);
  const button = h("button", { type: "button", class: "quiet remove", "aria-label": `Remove ${name}` }, "Remove");
  button.addEventListener("click", remove);
  const body = h("div", { class: "result-body" });
  const verdict = h("p", { class: "verdict waiting" }, "Scoring …");
  const element = h(
    "article",
    { class: "card result", "aria-labelledby": id, "aria-busy": "true" },
    h("header", {}, h("div", { class: "pictures" }), h("div", { class: "headline" }, heading, verdict), button),
    body,
  );
  return { element, heading };
}

/** Mark a result as being scored anew. */
export function waiting({ element }) {
  element.setAttribute("aria-busy", "true");
}

/** Show an outcome (see scoring.js) in the element that `pending` made. `models` (models.js) knows the models it is of. */
export async function show({ element }, file, outcome, models) {
  const bitmap = await decode(file);
  const headline = element.querySelector(".headline");
  const pictures = element.querySelector(".pictures");
  const body = element.querySelector(".result-body");
  headline.querySelectorAll("p").forEach((paragraph) => paragraph.remove());
  if (outcome.error) {
    pictures.replaceChildren(picture(bitmap));
    headline.append(...refusal(outcome.error));
    body.replaceChildren();
  } else {
    const asked = words.partsOf(outcome.anomaly.result).map((part) => [part, models.of(part)]);
    pictures.replaceChildren(picture(bitmap), ...seen(bitmap, asked));
    headline.append(...verdict(outcome.anomaly));
    body.replaceChildren(...content(outcome, asked, bitmap));
  }
  bitmap?.close();
  element.setAttribute("aria-busy", "false");
}

function content({ classes, anomaly }, asked, bitmap) {
  const threshold = anomaly.alpha / asked.length;
  return [
    h(
      "div",
      { class: "panels" },
      classes && classesSection(classes, anomaly.result.is_anomaly),
      asked.map(([part, model]) => scoreSection(part, model, anomaly.alpha, asked.length, threshold)),
    ),
    ...asked.filter(([part]) => part.views).map(([part, model]) => viewsSection(part, model, bitmap)),
  ];
}

function classesSection({ model, result }, strange) {
  const titled = freshId("classes");
  const shares = result.top.map(({ label, probability }) => ({ label, share: probability }));
  return h(
    "section",
    { class: "classes", "aria-labelledby": titled },
    h("h4", { id: titled }, "What is it?"),
    h("p", { class: "by" }, model.name),
    bars(shares),
    strange
      ? h("p", { class: "hint" }, "A classifier must name one of its classes, also for an image that is none of them.")
      : null,
  );
}

function scoreSection(part, model, alpha, count, threshold) {
  const titled = freshId("score");
  const { state, text } = words.verdict(part, alpha, count);
  const normal = part.normal ?? `its training data, ${model.training_data.name}`;
  return h(
    "section",
    { class: `score ${state}`, "aria-labelledby": titled },
    h("h4", { id: titled }, `Strange to ${part.model}?`),
    h("p", { class: "by" }, `normal: ${normal}`),
    h("p", { class: `verdict ${state}` }, icon(state), text),
    h("p", {}, words.meaning(part)),
    curve(model.calibration.quantiles, part, threshold),
    terms(part),
  );
}

/** The terms of a classifier's score, for those who want to know. */
function terms(part) {
  if (!part.formula) return null;
  const parts = [
    part.rotation_loss === null ? null : `rotation loss ${words.score(part.rotation_loss)} (lower: turns are told well)`,
    part.kl_uniform === null ? null : `KL from uniform ${words.score(part.kl_uniform)} (higher: surer of its class)`,
  ].filter((term) => term !== null);
  return h("p", { class: "hint" }, `${FORMULAS[part.formula]}: ${parts.join(", ")}.`);
}

function verdict(anomaly) {
  const { title, text } = words.overall(anomaly);
  const state = anomaly.result.is_anomaly ? "alarm" : "ordinary";
  return [h("p", { class: `verdict badge ${state}` }, icon(state), title), h("p", { class: "hint" }, text)];
}

function refusal({ code, message }) {
  return [
    h("p", { class: "verdict badge refused" }, icon("refused"), "Not scored"),
    h("p", { class: "error" }, `${message[0].toUpperCase()}${message.slice(1)}.`, " ", h("code", {}, code)),
  ];
}

function icon(state) {
  const sign = { alarm: "▲", near: "◆", ordinary: "✓", refused: "✕" }[state];
  return h("span", { class: "icon", "aria-hidden": "true" }, sign);
}

/** The image as it came, in few pixels. */
function picture(bitmap) {
  if (bitmap === null) return h("p", { class: "placeholder" }, "no preview");
  const canvas = h("canvas", { class: "preview", role: "img", "aria-label": "the image" });
  const scale = Math.min(1, (2 * PREVIEW) / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** The image as the models see it, once for each kind of fitting that changes it. */
function seen(bitmap, asked) {
  if (bitmap === null) return [];
  const fittings = new Map(asked.map(([, { fitting }]) => [`${fitting.size} ${fitting.shorter_side}`, fitting]));
  return [...fittings.values()]
    .filter(({ size }) => bitmap.width !== size || bitmap.height !== size)
    .map((fitting) => {
      const text = `as the model sees it, ${fitting.size} × ${fitting.size}`;
      const canvas = h("canvas", { class: "preview", role: "img", "aria-label": `the image ${text}` });
      draw(canvas, fit(bitmap, fitting));
      return h("figure", {}, canvas, h("figcaption", {}, text));
    });
}
