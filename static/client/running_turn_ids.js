/** The ids of the turns that this tab has running, kept over a reload in `sessionStorage`, and gone with the tab. */

const TURNS_MAX = 500;

export class LiveTurns {
  #storage;
  #key;
  #ids = new Set();
  #recalled;

  /**
   * @param {string} url whose turns they are
   * @param {Storage | null} [storage] where they are kept; null: nowhere
   */
  constructor(url, storage = tabStorage()) {
    this.#key = `turnwire.live ${url}`;
    this.#storage = storage;
    this.#recalled = this.#read();
  }

  add(id) {
    this.#ids.add(id);
    this.#write();
  }

  delete(id) {
    if (this.#ids.delete(id) || this.#recalled.includes(id)) {
      this.#recalled = this.#recalled.filter((other) => other !== id);
      this.#write();
    }
  }

  /** What was running before the reload, once. */
  recall() {
    return this.#recalled.splice(0);
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
      this.#storage?.setItem(this.#key, JSON.stringify([...this.#recalled, ...this.#ids].slice(-TURNS_MAX)));
    } catch {
      // Storage is off or full: a reload then starts empty.
    }
  }
}

function tabStorage() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // a browser may forbid even to ask
  }
}
