/** Stores the ids of this tab's running turns in `sessionStorage`, so that a reload can follow them. */

const TURNS_MAX = 500;

export class RunningTurnIds {
  #storage;
  #key;
  #ids = new Set();
  #previous;

  /**
   * @param {string} url the gateway's address; each gateway has its own entry
   * @param {Storage | null} [storage] null: nothing is stored
   */
  constructor(url, storage = tabStorage()) {
    this.#key = `turnwire.running ${url}`;
    this.#storage = storage;
    this.#previous = this.#read();
  }

  add(id) {
    this.#ids.add(id);
    this.#write();
  }

  delete(id) {
    if (this.#ids.delete(id) || this.#previous.includes(id)) {
      this.#previous = this.#previous.filter((other) => other !== id);
      this.#write();
    }
  }

  /** Returns the ids that were stored before the reload. A second call returns none. */
  recall() {
    return this.#previous.splice(0);
  }

  #read() {
    try {
      const ids = JSON.parse(this.#storage?.getItem(this.#key) ?? "[]");
      return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
    } catch {
      return [];
    }
  }

  #write() {
    try {
      this.#storage?.setItem(this.#key, JSON.stringify([...this.#previous, ...this.#ids].slice(-TURNS_MAX)));
    } catch {
      // Storage is disabled or full: a reload doesn't find the newest turns.
    }
  }
}

function tabStorage() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // a browser may throw even when the property is read
  }
}
