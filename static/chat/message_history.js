/** What is stored of a conversation, read page by page into its tree, with what this browser remembers of it. */

import { recall, remember } from "../shared/local_prefs.js";
import { Stopwatch } from "./turn_timer.js";

export class History {
  /** `before` for the page of messages in front of those that are here; undefined: none was read, null: there is none. */
  earlier = undefined;
  #tree;
  #ask;

  /**
   * @param {import("./message_tree.js").MessageTree} tree
   * @param {(type: string, fields: object) => Promise<object>} ask sends a request about the conversation
   */
  constructor(tree, ask) {
    this.#tree = tree;
    this.#ask = ask;
  }

  /** Reads so many pages, the newest first. @param {string} conversation its id */
  async read(conversation, pages) {
    for (let page = 0; page < pages && this.earlier !== null; page++) this.earlier = (await this.#page(this.earlier)).next;
    for (const node of [this.#tree.root, ...this.#tree.all]) node.spread ||= Boolean(recall(spreadKey(node, conversation)));
  }

  /** Reads what came since, the newest first; where that is more than so many pages, the rest counts as earlier. */
  async readNew(pages) {
    let before = null;
    for (let page = 0; page < pages; page++) {
      const { known, next } = await this.#page(before);
      if (known || !next) return;
      before = next;
    }
    this.earlier = before;
  }

  async #page(before) {
    const { messages, next } = await this.#ask("conversation.messages", before ? { before } : {});
    const known = messages.some(({ id }) => this.#tree.get(id));
    for (const message of messages) {
      const node = this.#tree.add(message);
      if (!node.watch) recallTiming(node);
      node.rating ??= recall(`rating ${node.id}`);
    }
    return { known, next: next ?? null };
  }
}

/** Keeps over a reload whether the versions below a message stand side by side. */
export function rememberSpread(node, conversation) {
  if (conversation && (node.id || node.role === "root")) remember(spreadKey(node, conversation), node.spread || null);
}

/** Keeps over a reload how long an answer took. */
export function rememberTiming(node) {
  if (node.id && node.timing) remember(`timing ${node.id}`, node.timing);
}

/** Keeps over a reload how an answer was rated: the gateway takes ratings, and doesn't give them back. */
export function rememberRating(node, rating) {
  node.rating = rating;
  remember(`rating ${node.id}`, rating);
}

function recallTiming(node) {
  node.timing = recall(`timing ${node.id}`);
  if (!node.timing) return;
  node.watch = new Stopwatch(true);
  node.watch.end(node.timing);
}

function spreadKey(node, conversation) {
  return `spread ${node.id ?? conversation}`;
}
