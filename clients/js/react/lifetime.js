/** Counts the mounted users of something that has to be opened and closed. */

/**
 * `begin` is called for the first user, and `end` when none is left at the end of a task. So nothing happens when `StrictMode`
 * unmounts a component and mounts it again at once.
 */
export class Lifetime {
  /** Whether the last user has left and another one has come, in this task. Then effects may run for the second time. */
  isRemounted = false;
  /** Whether `begin` was called, and `end` wasn't. */
  isActive = false;
  #users = 0;
  #endTimer = null;
  #begin;
  #end;

  constructor(begin, end) {
    this.#begin = begin;
    this.#end = end;
  }

  /** Adds a user. Returns a function that removes it. */
  join() {
    this.#users++;
    if (this.#endTimer !== null) this.#remount();
    else if (!this.isActive) {
      this.isActive = true;
      this.#begin();
    }
    let hasLeft = false;
    return () => {
      if (hasLeft) return;
      hasLeft = true;
      if (--this.#users === 0) this.#endTimer = setTimeout(() => this.#finish());
    };
  }

  #remount() {
    clearTimeout(this.#endTimer);
    this.#endTimer = null;
    this.isRemounted = true;
    setTimeout(() => (this.isRemounted = false));
  }

  #finish() {
    this.#endTimer = null;
    this.isActive = false;
    this.#end();
  }
}
