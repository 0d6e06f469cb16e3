/**
 * Models: what the server has listed, by digest. A model that another has replaced stays, for the answers that it gave.
 */

import { ApiFailure } from "./api.js";
import { partsOf } from "./words.js";

export class Models {
  #api;
  #listedAgain;
  #byDigest = new Map();

  /** `listedAgain` is called with the answer of /models where `drawable` has asked for it. */
  constructor(api, listedAgain) {
    this.#api = api;
    this.#listedAgain = listedAgain;
  }

  /** Ask what is loaded; returns the answer of /models. */
  async list() {
    const listed = await this.#api.models();
    for (const model of listed.models) this.#byDigest.set(model.digest, model);
    return listed;
  }

  /** The entry of /models of the model that gave a part of an answer. */
  of(part) {
    return this.#byDigest.get(part.digest);
  }

  /**
   * Return outcomes (see scoring.js) as they can be drawn. Where one is of a model that is not listed, which has replaced
   * another since, or asked for one that is gone, the models are listed again, once; an outcome of a model that is not
   * listed then becomes an error.
   */
  async drawable(outcomes) {
    const isGone = outcomes.some((outcome) => outcome.error?.code === "unknown_model");
    if (!isGone && outcomes.every((outcome) => this.#canDraw(outcome))) return outcomes;
    // Another worker of the server may list them, one that still has the old ones.
    let error = { code: "models_changed", message: "a model is just being replaced; add the image again" };
    try {
      this.#listedAgain(await this.list());
    } catch (failure) {
      if (!(failure instanceof ApiFailure)) throw failure;
      error = failure.error;
    }
    return outcomes.map((outcome) => (this.#canDraw(outcome) ? outcome : { error }));
  }

  #canDraw(outcome) {
    return outcome.error !== undefined || partsOf(outcome.anomaly.result).every((part) => this.of(part) !== undefined);
  }
}
