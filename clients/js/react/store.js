/** A state outside of React, for `useSyncExternalStore`. */

/** How long a page that isn't shown, and so has no frames, waits with a change. */
const HIDDEN_MS = 250;

/** Holds an immutable snapshot, and tells React of a change once for each animation frame. */
export class Store {
  first;
  #snapshot;
  #make;
  #join;
  #listeners = new Set();
  #cancelFrame = null;

  /**
   * @param {object} snapshot the first one, and that of a server
   * @param {() => object} make returns the snapshot of the current state
   * @param {() => () => void} join is called for each mounted component, and returns a function for its end
   */
  constructor(snapshot, make, join) {
    this.#snapshot = this.first = snapshot;
    this.#make = make;
    this.#join = join;
  }

  getSnapshot = () => this.#snapshot;

  getServerSnapshot = () => this.first;

  subscribe = (listener) => {
    const leave = this.#join();
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      leave();
    };
  };

  /** Makes a new snapshot in the next frame. */
  change = () => {
    this.#cancelFrame ??= onNextFrame(this.flush);
  };

  /** Makes a new snapshot now. */
  flush = () => {
    this.stop();
    this.#snapshot = this.#make();
    for (const listener of this.#listeners) listener();
  };

  /** Drops a change that waits for its frame. */
  stop() {
    this.#cancelFrame?.();
    this.#cancelFrame = null;
  }
}

/** Calls `run` in the next frame, or a little later if the page isn't shown. Returns a function that prevents that. */
function onNextFrame(run) {
  const timer = setTimeout(run, HIDDEN_MS);
  const frame = globalThis.requestAnimationFrame?.(run);
  return () => {
    clearTimeout(timer);
    globalThis.cancelAnimationFrame?.(frame);
  };
}
