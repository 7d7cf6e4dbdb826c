/** The stored messages of a chat as UI messages. The gateway's own address for the AI SDK uses the same ids. */

import { chunksOfPart, metadataOf } from "./chunks.js";
import { uiParts } from "./messages.js";

/** The key in the metadata of an input message under which the id of its UI message is stored. */
const METADATA = "ai_sdk";
const PAGE = 200;

/** Returns the metadata of a start whose input is a UI message with this id. */
export function originOf(id) {
  return { [METADATA]: { message: id } };
}

/** Returns the id of the UI message of an input message, or undefined if another client has sent it. */
export function uiIdOf(input) {
  const id = input?.metadata?.[METADATA]?.message;
  return typeof id === "string" && id ? id : undefined;
}

/** The newest stored messages of a chat. */
export class ChatHistory {
  #messages = [];
  #byId = new Map();
  #absolute;

  /**
   * @param {(url: string) => string} absolute makes an address of the gateway absolute
   */
  constructor(absolute) {
    this.#absolute = absolute;
  }

  /** Reads the newest `limit` messages, or fewer if `isEnough` returns true. */
  async read(conversation, { limit, isEnough = () => false }) {
    for await (const page of conversation.messages({ limit: Math.min(limit, PAGE) }).pages()) {
      this.#messages = [...page.messages, ...this.#messages];
      for (const message of page.messages) this.#byId.set(message.id, message);
      if (this.#messages.length >= limit || isEnough()) return;
    }
  }

  /**
   * Returns the id of the UI message that a stored message belongs to. An answer to the results of tools is a further step of
   * the UI message with the calls.
   */
  uiId(message) {
    if (message.role !== "assistant") return uiIdOf(message) ?? message.id;
    const parent = this.#byId.get(message.parent);
    return (parent?.role === "tool" && uiIdOf(parent)) || message.turn || message.id;
  }

  /** Returns the stored id of each UI message: that of its newest version or step. */
  storedIds() {
    const said = this.#messages.filter(({ role }) => role !== "tool");
    return new Map(said.map((message) => [this.uiId(message), message.id]));
  }

  /** Returns the branch that ends at a message as UI messages. */
  uiMessages(head) {
    const shown = [];
    const path = this.#pathTo(head);
    path.forEach((message, n) => {
      if (message.role === "tool" || message.parts.length === 0) return;
      const [id, parts] = [this.uiId(message), uiParts(message, resultsIn(path[n + 1]), this.#absolute)];
      if (message.role !== "assistant") {
        shown.push({ id, role: message.role, parts });
        return;
      }
      const { turn, id: stored, model } = message;
      const metadata = { turn, message: stored, model, ...metadataOf(message) };
      const last = shown.at(-1);
      if (last?.id === id) Object.assign(last, { parts: [...last.parts, { type: "step-start" }, ...parts], metadata });
      else shown.push({ id, role: "assistant", parts: [{ type: "step-start" }, ...parts], metadata });
    });
    return shown;
  }

  /** Returns the chunks of the steps before an answer to `parent`, if that has the results of tools. */
  earlierChunks(parent) {
    const path = this.#pathTo(parent);
    let chunks = [];
    while (path.length > 1 && path.at(-1).role === "tool" && path.at(-2).role === "assistant") {
      const [answer, results] = path.splice(-2);
      const parts = uiParts(answer, resultsIn(results), this.#absolute);
      const step = parts.flatMap((part, n) => chunksOfPart(part, `${path.length}-${n}`));
      chunks = [{ type: "start-step" }, ...step, { type: "finish-step" }, ...chunks];
    }
    return chunks;
  }

  #pathTo(id) {
    const path = [];
    for (let message = this.#byId.get(id); message; message = this.#byId.get(message.parent)) path.push(message);
    return path.reverse();
  }
}

/** Returns the results of tools in a message, by call id. */
function resultsIn(message) {
  const results = (message?.parts ?? []).filter(({ kind }) => kind === "tool_result");
  return new Map(results.map((result) => [result.call, result]));
}
