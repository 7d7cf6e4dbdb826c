/**
 * Loads the stored messages of a conversation into its tree, page by page. Restores whether their versions are shown side
 * by side.
 */

import { getPref, setPref } from "../shared/local_prefs.js";

export class MessageHistory {
  /** The cursor of the next older page. Undefined: nothing is loaded yet; null: there is no older page. */
  earlierCursor = undefined;
  #tree;
  #request;

  /**
   * @param {import("./message_tree.js").MessageTree} tree
   * @param {(type: string, fields: object) => Promise<object>} request sends a request about the conversation
   */
  constructor(tree, request) {
    this.#tree = tree;
    this.#request = request;
  }

  /** Loads up to `pages` pages, newest first. @param {string} conversationId */
  async load(conversationId, pages) {
    for (let page = 0; page < pages && this.earlierCursor !== null; page++) this.earlierCursor = (await this.#loadPage(this.earlierCursor)).next;
    for (const node of [this.#tree.root, ...this.#tree.all]) node.sideBySide ||= Boolean(getPref(sideBySideKey(node, conversationId)));
  }

  /** Loads the messages that are newer than the loaded ones, newest first. It stops after `pages` pages; `load` then continues from there. */
  async loadNew(pages) {
    let before = null;
    for (let page = 0; page < pages; page++) {
      const { known, next } = await this.#loadPage(before);
      if (known || !next) return;
      before = next;
    }
    this.earlierCursor = before;
  }

  async #loadPage(before) {
    const { messages, next } = await this.#request("conversation.messages", before ? { before } : {});
    const known = messages.some(({ id }) => this.#tree.get(id));
    for (const message of messages) this.#tree.add(message);
    return { known, next: next ?? null };
  }
}

/** Stores whether the versions below a message are shown side by side. */
export function storeSideBySide(node, conversationId) {
  if (conversationId && (node.id || node.role === "root")) setPref(sideBySideKey(node, conversationId), node.sideBySide || null);
}

function sideBySideKey(node, conversationId) {
  return `side-by-side ${node.id ?? conversationId}`;
}
