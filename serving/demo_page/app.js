/** The page: images come in, are scored a few at a time, and their results stand below, the newest first. */

import { Api, ApiFailure } from "./api.js";
import { byId } from "./dom.js";
import { listen } from "./inputs.js";
import { Models } from "./models.js";
import { pending, show, waiting } from "./result.js";
import { groups, score } from "./scoring.js";
import { settings } from "./settings.js";
import * as words from "./words.js";

const MOST_RESULTS = 100;

const api = new Api(askForKey);
const models = new Models(api, fillSettings);
let choice = null;
let entries = []; // {file, name, shown: {element, heading}, due, outcome}, in the order of the page
let scoring = false;
let leftOut = 0; // files that came in when the page was full

async function start() {
  byId("trouble").hidden = true;
  try {
    fillSettings(await models.list());
    void scoreAll();
  } catch (failure) {
    if (!(failure instanceof ApiFailure)) throw failure;
    byId("trouble-text").textContent = `The models could not be listed: ${failure.message}.`;
    byId("trouble").hidden = false;
  }
}

/** Offer the models that are listed. Where one that was chosen is gone, what is on the page is scored anew without it. */
function fillSettings(listed) {
  const before = choice;
  const form = byId("settings");
  const focused = [...form.elements].indexOf(document.activeElement);
  choice = settings(form, listed, choose, before);
  form.elements[focused]?.focus();
  if (before !== null && JSON.stringify(choice) !== JSON.stringify(before)) choose(choice);
}

function choose(chosen) {
  choice = chosen;
  for (const entry of entries) {
    entry.due = true;
    waiting(entry.shown);
  }
  void scoreAll();
}

function add(files) {
  const room = MOST_RESULTS - entries.length;
  const taken = files.slice(0, room).map((file) => {
    const entry = { file, name: file.name || "unnamed", due: true, outcome: null };
    entry.shown = pending(entry.name, () => remove(entry));
    return entry;
  });
  leftOut = files.length - taken.length;
  entries = [...taken, ...entries];
  byId("list").prepend(...taken.map((entry) => entry.shown.element));
  tidy();
  bringIntoView(byId("results"));
  void scoreAll();
}

/** Score what is due until nothing is. One loop runs at a time; what comes in meanwhile is due in its turn. */
async function scoreAll() {
  if (scoring || choice === null) return;
  scoring = true;
  try {
    const done = new Set();
    for (let due = dueEntries(); due.length; due = dueEntries()) {
      say(`Scoring ${words.count(due.length, "image")} …`);
      const [group] = groups(due);
      for (const entry of group) entry.due = false;
      const outcomes = await models.drawable(await score(api, choice, group.map((entry) => entry.file)));
      for (const [index, entry] of group.entries()) {
        entry.outcome = outcomes[index];
        if (entries.includes(entry)) await show(entry.shown, entry.file, entry.outcome, models);
        if (entry.due) waiting(entry.shown);
        done.add(entry);
      }
      warn();
    }
    const shown = [...done].filter((entry) => entries.includes(entry));
    if (shown.length) say(words.summary(shown));
  } finally {
    scoring = false;
  }
}

function dueEntries() {
  return entries.filter((entry) => entry.due);
}

function remove(entry) {
  leftOut = 0;
  const place = entries.indexOf(entry);
  entries = entries.filter((other) => other !== entry);
  entry.shown.element.remove();
  tidy();
  say(`${entry.name} removed.`);
  const next = entries[Math.min(place, entries.length - 1)];
  (next ? next.shown.heading : byId("files")).focus();
}

function clear() {
  leftOut = 0;
  entries = [];
  byId("list").replaceChildren();
  tidy();
  say("All results removed.");
  byId("files").focus();
}

function tidy() {
  byId("clear").hidden = entries.length === 0;
  byId("nothing").hidden = entries.length > 0;
  warn();
}

/** Say which models can never raise the alarm at this alpha, and whether the page is full. */
function warn() {
  const warnings = new Set(entries.flatMap((entry) => entry.outcome?.warnings ?? []));
  if (leftOut) warnings.add(`The page shows ${MOST_RESULTS} images at most: ${words.count(leftOut, "image")} left out`);
  byId("warnings").textContent = [...warnings].join(". ");
  byId("warnings").hidden = warnings.size === 0;
}

function say(text) {
  byId("status").textContent = text;
}

function bringIntoView(element) {
  if (element.getBoundingClientRect().top < window.innerHeight * 0.6) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

function askForKey(refused) {
  const form = byId("key-form");
  const field = byId("key");
  form.hidden = false;
  byId("key-refused").hidden = !refused;
  field.value = "";
  field.focus();
  return new Promise((done) => {
    form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        form.hidden = true;
        done(field.value);
        field.value = "";
        byId("files").focus();
      },
      { once: true },
    );
  });
}

byId("retry").addEventListener("click", () => void start());
byId("clear").addEventListener("click", clear);
listen(add, say);
await start();
