/** Lets several tabs of one browser check the same turns independently, and share their results. */

import { IntegrityCheck } from "./integrity_check.js";

const POLL_MS = 400;
const JOIN_TIMEOUT_MS = 20_000;

/**
 * Messages on the channel: `{join: conversation}` asks other tabs to follow a conversation, `{joined: conversation}`
 * answers it, `{checked: {id, state, characters}}` shares a result.
 */
export class PeerCheck {
  /** The check of this tab. */
  integrity;
  #channel;
  #connection;
  /** The results of other tabs, by turn. */
  #peerResults = new Map();
  #joined = new Set();

  /**
   * @param {BroadcastChannel} channel
   * @param {import("../turnwire.js").Connection} connection
   */
  constructor(channel, connection) {
    this.#channel = channel;
    this.#connection = connection;
    this.integrity = new IntegrityCheck(connection);
    this.integrity.addEventListener("checked", ({ detail: { id, state, characters } }) => channel.postMessage({ checked: { id, state, characters } }));
    channel.addEventListener("message", ({ data }) => {
      if (data.joined) this.#joined.add(data.joined);
      else if (data.checked) this.#peerResults.set(data.checked.id, data.checked);
    });
  }

  /** Attaches this tab to a conversation that another tab asked for, and sends that tab a confirmation. */
  async join(conversation) {
    try {
      await this.#connection.conversation(conversation).attach();
      this.#channel.postMessage({ joined: conversation });
    } catch {
      // The conversation is deleted or the connection is closed. The other tab's request times out.
    }
  }

  /** Asks other tabs to follow a conversation. Returns whether one does so within 20 s. */
  async waitForPeer(conversation) {
    this.#joined.delete(conversation);
    return this.#poll(() => {
      if (this.#joined.has(conversation)) return true;
      this.#channel.postMessage({ join: conversation });
      return false;
    }, JOIN_TIMEOUT_MS);
  }

  /** Returns whether another tab verified each of these turns. @param {string[]} ids */
  confirmed(ids, timeout_ms) {
    return this.#poll(() => ids.every((id) => this.#peerResults.get(id)?.state === "passed"), timeout_ms);
  }

  async #poll(condition, timeout_ms) {
    const deadline = performance.now() + timeout_ms;
    while (!condition()) {
      if (performance.now() > deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return true;
  }
}
