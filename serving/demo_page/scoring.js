/** Scoring: files to outcomes, a few at a time, so that the first results are there soon and no request is huge. */

import { ApiFailure } from "./api.js";

const TOGETHER = 4;
const BYTES_TOGETHER = 16 * 1024 * 1024;
const NOT_UNDERSTOOD = { code: "not_understood", message: "the server's answer does not have a result for each image" };

/** Cut entries ({file}) into groups that go in one request each. */
export function groups(entries) {
  const made = [];
  let bytes = 0;
  for (const entry of entries) {
    const last = made.at(-1);
    if (last && last.length < TOGETHER && bytes + entry.file.size <= BYTES_TOGETHER) {
      last.push(entry);
      bytes += entry.file.size;
    } else {
      made.push([entry]);
      bytes = entry.file.size;
    }
  }
  return made;
}

/**
 * Score files with the models chosen ({classifier: name or null, oneClass: names, alpha: text or null}). One outcome a file, in
 * order: {classes: {model, result} or null, anomaly: {alpha, result}, warnings}, or {error: {code, message}}.
 */
export async function score(api, choice, files) {
  const readable = await Promise.all(files.map(canBeRead));
  const sent = files.filter((_, index) => readable[index]);
  const outcomes = sent.length ? await together(api, choice, sent) : [];
  const unreadable = { code: "unreadable", message: "the browser cannot read this file (is it a folder?)" };
  return readable.map((good) => (good ? outcomes.shift() : { error: unreadable }));
}

async function together(api, choice, files) {
  const models = [choice.classifier, ...choice.oneClass].filter((name) => name !== null);
  try {
    const [classes, anomaly] = await Promise.all([
      choice.classifier === null ? null : api.classify(files, choice.classifier),
      api.anomalyScore(files, models, choice.alpha),
    ]);
    for (const answer of [classes, anomaly]) {
      if (answer !== null && answer.results?.length !== files.length) throw new ApiFailure(200, NOT_UNDERSTOOD);
    }
    return files.map((_, index) => outcome(classes, anomaly, index));
  } catch (failure) {
    if (!(failure instanceof ApiFailure)) throw failure;
    if (failure.status === 413 && files.length > 1) {
      const alone = await Promise.all(files.map((file) => together(api, choice, [file])));
      return alone.flat();
    }
    return files.map(() => ({ error: failure.error }));
  }
}

function outcome(classes, anomaly, index) {
  const error = anomaly.results[index].error ?? classes?.results[index].error;
  if (error) return { error };
  return {
    classes: classes && { model: classes.model, result: classes.results[index] },
    anomaly: { alpha: anomaly.alpha, result: anomaly.results[index] },
    warnings: anomaly.warnings ?? [],
  };
}

async function canBeRead(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
