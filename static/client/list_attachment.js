/** The attachment of one connection to the list of the user's conversations. Each socket attaches again. */

import { TurnwireError } from "./errors.js";

const RETRY_MS = 1_000;

export class ListAttachment {
  #request;
  #socketNumber;
  #emit;
  #wanted = false;
  /** The promise that `attach` returns, with its functions. Null: not attached. */
  #attaching = null;
  #answered = false;

  /**
   * @param {(type: string) => Promise<object>} request sends a request
   * @param {() => number | null} socketNumber returns the number of the live socket, or null if there is none
   * @param {(change: object) => void} emit dispatches a change of the list
   */
  constructor(request, socketNumber, emit) {
    this.#request = request;
    this.#socketNumber = socketNumber;
    this.#emit = emit;
  }

  /** Attaches, now and on later sockets. Resolves when the gateway has answered. Rejects with a TurnwireError. */
  attach() {
    if (this.#wanted) return this.#attaching.promise;
    this.#wanted = true;
    this.#answered = false;
    const attaching = {};
    attaching.promise = new Promise((resolve, reject) => Object.assign(attaching, { resolve, reject }));
    attaching.promise.catch(() => {});
    this.#attaching = attaching;
    this.resume();
    return attaching.promise;
  }

  async detach() {
    if (!this.#wanted) return;
    this.#end(new TurnwireError({ code: "withdrawn", message: "Detached before the gateway answered." }));
    if (this.#socketNumber() !== null) await this.#request("conversations.detach");
  }

  /** Attaches on a new socket, if the list is to be attached. */
  resume() {
    const socket = this.#socketNumber();
    if (this.#wanted && socket !== null) void this.#send(socket, this.#attaching);
  }

  /** Handles `conversations.changed`. */
  receive({ type: _, ...change }) {
    this.#emit(change);
  }

  /** Rejects a pending attach: the connection is closed for good. */
  close(error) {
    this.#end(error);
  }

  async #send(socket, attaching) {
    try {
      await this.#request("conversations.attach");
      if (attaching !== this.#attaching) return;
      attaching.resolve();
      // Changes in between are lost, so the application has to list the conversations again.
      if (this.#answered) this.#emit({ conversation: null, change: "reattached" });
      this.#answered = true;
    } catch (error) {
      if (attaching !== this.#attaching || error.code === "connection_lost") return; // the next socket attaches again
      if (!error.retryable) this.#end(error);
      else setTimeout(() => socket === this.#socketNumber() && this.resume(), error.retry_after_ms ?? RETRY_MS);
    }
  }

  #end(error) {
    this.#wanted = false;
    this.#attaching?.reject(error);
    this.#attaching = null;
  }
}
