/** Words for numbers, views and verdicts. Pure functions. */

const MINUS = "\u2212";

/** A score: four significant digits, with a true minus sign; null (a score that is no number) says so. */
export function score(value) {
  if (value === null) return "not a number";
  const text = Math.abs(value) >= 1000 ? Math.abs(value).toFixed(0) : Math.abs(value).toPrecision(4);
  return (value < 0 ? MINUS : "") + text;
}

/** A p-value, or a threshold for one: two significant digits below 0.1. */
export function pValue(value) {
  return value >= 0.1 ? value.toFixed(2) : String(Number(value.toPrecision(2)));
}

/** A share of one in percent: whole from 10 %, else two significant digits; never rounded to 0 or to 100. */
export function percent(share) {
  const hundredths = share * 100;
  if (hundredths >= 99.5 && share < 1) return hundredths >= 99.995 ? "> 99.99 %" : `${hundredths.toFixed(2)} %`;
  if (hundredths >= 10) return `${hundredths.toFixed(0)} %`;
  if (share > 0 && hundredths < 0.01) return "< 0.01 %";
  return `${Number(hundredths.toPrecision(2))} %`;
}

/** A count with its noun: "1 image", "4,909 images". */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** What was done to a view: "rotated 90 degrees, 8 px down". */
export function transformation({ rotation, vertical, horizontal, resize }) {
  const steps = [
    rotation ? `rotated ${rotation * 90} degrees` : null,
    vertical ? `${Math.abs(vertical)} px ${vertical > 0 ? "down" : "up"}` : null,
    horizontal ? `${Math.abs(horizontal)} px ${horizontal > 0 ? "right" : "left"}` : null,
    resize !== 1 ? `scaled by ${resize}` : null,
  ].filter((step) => step !== null);
  return steps.length ? steps.join(", ") : "as it is";
}

/** How well each head recognised its part: "rotation 0.98, vertical 0.71, horizontal 0.80". */
export function recognition(heads) {
  return Object.entries(heads)
    .map(([head, probability]) => `${head} ${share(probability)}`)
    .join(", ");
}

/** A probability with two decimals; null, where the network gave none, is a dash. */
export function share(probability) {
  return probability === null ? "–" : probability.toFixed(2);
}

/** What a p-value means, in one sentence. */
export function meaning(part) {
  const n = part.calibration_n;
  if (part.p_value <= 1 / (n + 1) + 1e-12) {
    return `None of ${count(n, "normal image")} looks this strange to the model: its smallest p-value.`;
  }
  return `${percent(part.p_value)} of normal images look at least this strange to the model.`;
}

/**
 * One model's verdict: {state, text}. `state` is "alarm" (p-value at most alpha / models: it alone raises the answer's
 * alarm), "near" (at most alpha) or "ordinary".
 */
export function verdict(part, alpha, models) {
  const threshold = alpha / models;
  const [p, limit] = toldApart(part.p_value, threshold);
  const why = models === 1 ? `alpha ${limit}` : `${limit} (alpha ${pValue(alpha)} ÷ ${models} models)`;
  if (part.p_value <= threshold) return { state: "alarm", text: `Alarm: p-value ${p} is at most ${why}.` };
  if (part.p_value <= alpha) {
    return { state: "near", text: `No alarm, but near: p-value ${p} is within alpha, and above ${why}.` };
  }
  return { state: "ordinary", text: `No alarm: p-value ${p} is above ${why}.` };
}

/** Two p-values in as few digits as keep them apart. */
function toldApart(one, other) {
  for (let digits = 2; digits < 6; digits += 1) {
    const texts = [one, other].map((value) => String(Number(value.toPrecision(digits))));
    if (texts[0] !== texts[1]) return texts;
  }
  return [pValue(one), pValue(other)];
}

/** What a scored image's whole answer says, for its heading and for the status line. */
export function overall(anomaly) {
  const parts = partsOf(anomaly.result);
  const threshold = anomaly.alpha / parts.length;
  const alarms = parts.filter((part) => part.p_value <= threshold).length;
  const models = count(parts.length, "model");
  return {
    title: anomaly.result.is_anomaly ? "Anomaly" : "No anomaly",
    text: alarms ? `${alarms} of ${models} ${alarms === 1 ? "raises" : "raise"} the alarm.` : `${models} asked, no alarm.`,
  };
}

/** The parts of one image's answer, the classifier's first. */
export function partsOf(result) {
  return [result.kl_rotation, ...result.transformation].filter((part) => part !== null);
}

/** One line about many outcomes: "3 images scored: 1 anomaly, 1 could not be scored." */
export function summary(entries) {
  if (entries.length === 1) {
    const [{ name, outcome }] = entries;
    if (outcome.error) return `${name} could not be scored: ${outcome.error.message}`;
    const likeliest = outcome.classes ? `${outcome.classes.result.label}, ` : "";
    return `${name}: ${likeliest}${overall(outcome.anomaly).title.toLowerCase()}.`;
  }
  const bad = entries.filter(({ outcome }) => outcome.error).length;
  const anomalies = entries.filter(({ outcome }) => !outcome.error && outcome.anomaly.result.is_anomaly).length;
  const said = anomalies === 1 ? "1 anomaly" : `${anomalies} anomalies`;
  return `${count(entries.length - bad, "image")} scored: ${said}${bad ? `; ${bad} could not be scored` : ""}.`;
}
