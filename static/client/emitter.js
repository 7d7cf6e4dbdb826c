/** An event target whose listeners can't break the connection: an error that one throws is reported, and the rest goes on. */

import { TurnwireError } from "./errors.js";

export class Emitter extends EventTarget {
  /** The functions that are really registered, by the listeners that they call. */
  #guarded = new WeakMap();

  addEventListener(type, listener, options) {
    super.addEventListener(type, listener && this.#guard(listener), options);
  }

  removeEventListener(type, listener, options) {
    super.removeEventListener(type, listener && (this.#guarded.get(listener) ?? listener), options);
  }

  /** Dispatches a CustomEvent. */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #guard(listener) {
    let guarded = this.#guarded.get(listener);
    if (!guarded) {
      guarded = (event) => {
        if (typeof listener === "function") callListener(event.type, listener, event, this);
        else callListener(event.type, listener.handleEvent, event, listener);
      };
      this.#guarded.set(listener, guarded);
    }
    return guarded;
  }
}

/** Calls a listener. If it throws or rejects, its error is reported. @param {string} name what it listens to */
export function callListener(name, listener, argument, receiver) {
  try {
    const returned = listener.call(receiver, argument);
    if (returned instanceof Promise) returned.catch((cause) => report(name, cause));
  } catch (cause) {
    report(name, cause);
  }
}

/** Reports an error of a listener as a page reports its own errors. Node would end the process, so there it is logged. */
function report(name, cause) {
  const message = `A listener of “${name}” failed: ${cause?.message ?? cause}. The connection isn't affected; correct the listener.`;
  const error = Object.assign(new TurnwireError({ code: "listener_failed", message }), { cause });
  if (globalThis.document && globalThis.reportError) reportError(error);
  else console.error(error);
}
