/** Bars of shares: what each is a share of stands beside it, so that the bars themselves are for the eye alone. */

import { h } from "./dom.js";
import * as words from "./words.js";

/** Return a list of bars, one for each {label, share}; `share` in [0, 1], or null. */
export function bars(shares, { ordered = true, format = words.percent } = {}) {
  const rows = shares.map(({ label, share }) =>
    h(
      "li",
      {},
      h("span", { class: "bar-label" }, label),
      h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${(share ?? 0) * 100}%` } })),
      h("span", { class: "bar-share" }, share === null ? "–" : format(share)),
    ),
  );
  return h(ordered ? "ol" : "ul", { class: "bars" }, rows);
}
