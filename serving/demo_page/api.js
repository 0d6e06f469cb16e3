/** The API of the server this page came from: three requests, one shape of failure. */

const BUSY_TRIES = 6;

/** A request that failed as a whole. `error` has the API's own shape: {code, message}. */
export class ApiFailure extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.error = error;
  }
}

export class Api {
  #key = null;
  #askForKey;
  #asking = null;

  /** `askForKey(refused)` returns a promise of a key; `refused` says that the last one did not do. */
  constructor(askForKey) {
    this.#askForKey = askForKey;
  }

  /** What is loaded, and what runs by default. */
  models() {
    return this.#send("models", { method: "GET" });
  }

  /** The likeliest classes of each file, by one classifier. */
  classify(files, model) {
    return this.#send("classify", form(files, [["model", model], ["top_k", "5"]]));
  }

  /** Each model's score and p-value of each file, and the views of those that have any; `alpha` null: the server's. */
  anomalyScore(files, models, alpha) {
    const named = models.map((model) => ["model", model]);
    const asked = alpha === null ? [] : [["alpha", alpha]];
    return this.#send("anomaly_score", form(files, [...named, ...asked, ["views", "true"]]));
  }

  /** Send, and again after a wait where the server is full, or with a key where it asks for one. */
  async #send(address, request) {
    for (let tries = 1; ; ) {
      const key = this.#key;
      const answer = await fetched(address, { ...request, headers: key === null ? {} : { "X-API-Key": key } });
      if (answer.status === 401) {
        await this.#newKey(key);
      } else if (answer.status === 503 && tries < BUSY_TRIES) {
        tries += 1;
        const seconds = Number(answer.headers.get("retry-after") ?? 1);
        await new Promise((done) => setTimeout(done, 1000 * (Number.isFinite(seconds) ? seconds : 1))); // or it is a date
      } else {
        return content(answer);
      }
    }
  }

  /** Ask once, however many requests were refused with the same key. */
  async #newKey(refused) {
    if (this.#key !== refused) return;
    this.#asking ??= this.#askForKey(refused !== null);
    this.#key = await this.#asking;
    this.#asking = null;
  }
}

function form(files, fields) {
  const body = new FormData();
  for (const [name, value] of fields) body.append(name, value);
  body.append("on_error", "report");
  for (const file of files) body.append("images", file, file.name || "unnamed"); // without a name it is no file to the server
  return { method: "POST", body };
}

async function fetched(address, request) {
  try {
    return await fetch(address, { cache: "no-store", ...request });
  } catch {
    throw new ApiFailure(0, { code: "unreachable", message: "the server did not answer" });
  }
}

async function content(answer) {
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  const unknown = { code: "not_understood", message: `the server's answer (status ${answer.status}) was not understood` };
  throw new ApiFailure(answer.status, body?.error?.message ? body.error : unknown);
}
