/** Devices that prove the same turns, each for itself: tabs of one browser, which tell each other what they found. */

import { Proof } from "./integrity_check.js";

const ASK_EVERY_MS = 400;
const ANSWER_WITHIN_MS = 20_000;

export class Witness {
  /** This tab's own. */
  proof;
  #channel;
  #connection;
  #states = new Map();
  #here = new Set();

  /**
   * @param {BroadcastChannel} channel
   * @param {import("../turnwire.js").Connection} connection
   */
  constructor(channel, connection) {
    this.#channel = channel;
    this.#connection = connection;
    this.proof = new Proof(connection);
    this.proof.addEventListener("judged", ({ detail: { id, state, characters } }) => channel.postMessage({ judged: { id, state, characters } }));
    channel.addEventListener("message", ({ data }) => {
      if (data.here) this.#here.add(data.here);
      else if (data.judged) this.#states.set(data.judged.id, data.judged);
    });
  }

  /** Tells who asked that this tab follows the conversation, as soon as it does. */
  async answer(conversation) {
    try {
      await this.#connection.conversation(conversation).attach();
      this.#channel.postMessage({ here: conversation });
    } catch {
      // It is deleted, or the connection is gone: silence says so.
    }
  }

  /** Asks until another tab follows this conversation. */
  async called(conversation) {
    this.#here.delete(conversation);
    return this.#until(() => {
      if (this.#here.has(conversation)) return true;
      this.#channel.postMessage({ prove: conversation });
      return false;
    }, ANSWER_WITHIN_MS);
  }

  /** Whether another tab found each of these turns whole. */
  witnessed(ids, timeout_ms) {
    return this.#until(() => ids.every((id) => this.#states.get(id)?.state === "whole"), timeout_ms);
  }

  async #until(holds, timeout_ms) {
    const late = performance.now() + timeout_ms;
    while (!holds()) {
      if (performance.now() > late) return false;
      await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
    }
    return true;
  }
}
