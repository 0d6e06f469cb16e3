/** The form of models and false-alarm rate, made from the answer of /models. */

import { freshId, h } from "./dom.js";
import * as words from "./words.js";

/**
 * Fill `form` and return its choice: {classifier: name or null, oneClass: names, alpha: text, or null for the server's}.
 * `changed` is called with the new choice after each change to one that will do.
 */
export function settings(form, listed, changed) {
  const classifiers = listed.models.filter((model) => model.kind === "classifier");
  const oneClass = listed.models.filter((model) => model.kind === "one_class");
  const select = classifierSelect(classifiers, listed.default.classifier);
  const boxes = oneClass.map((model) => oneClassBox(model, listed.default.one_class.includes(model.name)));
  const alpha = h("input", {
    id: freshId("alpha"),
    type: "number",
    min: "0.0001",
    max: "0.9999",
    step: "any",
    inputmode: "decimal",
    placeholder: "the server's own",
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
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    const { classifier, oneClass: names } = choice();
    const wrong = !alpha.checkValidity()
      ? "Alpha is a number between 0 and 1, such as 0.05."
      : classifier === null && names.length === 0
        ? "Choose at least one model."
        : null;
    problem.hidden = wrong === null;
    problem.textContent = wrong ?? "";
    if (wrong === null) changed(choice());
  });
  return choice();
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
