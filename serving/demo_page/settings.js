/** The form of models and false-alarm rate, made from the answer of /models, and made anew when that changes. */

import { freshId, h } from "./dom.js";
import * as words from "./words.js";

/**
 * Fill `form` and return its choice: {classifier: name or null, oneClass: names, alpha: text, or null for the server's}.
 * It begins with the server's default models or, of a choice made before (`kept`), with those that are still there.
 * `changed` is called with the new choice after each change to one that will do.
 */
export function settings(form, listed, changed, kept = null) {
  const classifiers = listed.models.filter((model) => model.kind === "classifier");
  const oneClass = listed.models.filter((model) => model.kind === "one_class");
  const begin = remaining(kept, classifiers, oneClass) ?? {
    classifier: listed.default.classifier,
    oneClass: listed.default.one_class,
  };
  const select = classifierSelect(classifiers, begin.classifier);
  const boxes = oneClass.map((model) => oneClassBox(model, begin.oneClass.includes(model.name)));
  const alpha = h("input", {
    id: freshId("alpha"),
    type: "number",
    min: "1e-9",
    max: "0.999999999",
    step: "any",
    inputmode: "decimal",
    placeholder: "the server's own",
    value: kept?.alpha ?? "",
  });
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  form.replaceChildren(
    labelled("Classifier", select),
    boxes.length ? h("fieldset", {}, h("legend", {}, "One-class models"), boxes.map(({ element }) => element)) : "",
    labelled("Alpha: the false-alarm rate of the whole answer", alpha),
    problem,
  );
  const choice = () => ({
    classifier: select.value || null,
    oneClass: boxes.filter(({ input }) => input.checked).map(({ input }) => input.value),
    alpha: alpha.value || null,
  });
  form.onsubmit = (event) => event.preventDefault();
  form.onchange = () => {
    const { classifier, oneClass: names } = choice();
    const wrong = !alpha.checkValidity()
      ? "Alpha is a number between 0 and 1, such as 0.05."
      : classifier === null && names.length === 0
        ? "Choose at least one model."
        : null;
    problem.hidden = wrong === null;
    problem.textContent = wrong ?? "";
    if (wrong === null) changed(choice());
  };
  return choice();
}

/** What of a choice is still there; null where there was none, or no model of it is. */
function remaining(kept, classifiers, oneClass) {
  if (kept === null) return null;
  const has = (models, name) => models.some((model) => model.name === name);
  const classifier = has(classifiers, kept.classifier) ? kept.classifier : null;
  const names = kept.oneClass.filter((name) => has(oneClass, name));
  return classifier === null && names.length === 0 ? null : { classifier, oneClass: names };
}

function classifierSelect(classifiers, chosen) {
  const option = (value, text) => h("option", { value, selected: value === (chosen ?? "") }, text);
  const none = option("", "none");
  return h("select", { id: freshId("classifier") }, classifiers.map(({ name }) => option(name, name)), none);
}

function oneClassBox(model, checked) {
  const input = h("input", { type: "checkbox", value: model.name, checked });
  const calibrated = words.count(model.calibration.n, "image");
  const element = h(
    "label",
    { class: "check" },
    input,
    h("span", {}, model.name, h("span", { class: "hint" }, ` normal: ${model.normal}; calibrated on ${calibrated}`)),
  );
  return { element, input };
}

function labelled(text, control) {
  return h("p", { class: "field" }, h("label", { for: control.id }, text), control);
}
