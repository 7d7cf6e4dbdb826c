/**
 * Lays out the message tree of a conversation: the path from top to bottom, and sibling branches side by side.
 *
 * Nodes are moved only when their place changes. Views of messages that are no longer shown are discarded, so that a
 * page that is open all day stays small; they are created again when needed.
 */

import { el, icon, setChildren } from "../shared/dom.js";
import { AnswerView } from "./answer_view.js";
import { nextOnPath } from "./message_tree.js";
import { PromptView } from "./prompt_view.js";
import { showTime } from "./sent_time.js";

/** More columns than this wrap into several rows of lower height. */
const SINGLE_ROW_COLUMNS_MAX = 6;

/**
 * What the views call.
 * @typedef {object} MessageActions
 * @property {() => import("../turnwire.js").ConnectionState} connectionState
 * @property {(answer: MessageNode) => Promise<unknown>} stop
 * @property {(answer: MessageNode) => void} regenerate
 * @property {(prompt: MessageNode, parts: object[]) => void} edit
 * @property {(message: MessageNode) => void} select shows a branch
 * @property {(parent: MessageNode, sideBySide: boolean) => void} setSideBySide
 * @property {(answer: MessageNode, rating: "up" | "down") => Promise<void>} rate
 * @property {(answer: MessageNode) => void} runTools
 * @property {(conversation: ConversationModel) => void} loadEarlier
 *
 * @typedef {import("./message_tree.js").MessageNode} MessageNode
 * @typedef {import("./conversation_model.js").ConversationModel} ConversationModel
 */

export class MessageList {
  #root;
  #actions;
  #views = new Map();
  /** The layout elements of each message, by name. */
  #elements = new Map();
  /** The messages, and the conversation, that have a view or a layout element now. */
  #shown = new Set();
  /** The selected column of each element with columns. */
  #selectedColumns = new WeakMap();
  #widths = new ResizeObserver((entries) => {
    for (const { target } of entries) target.scrollTo({ left: this.#selectedColumns.get(target).offsetLeft - target.offsetLeft, behavior: "instant" });
  });

  /**
   * @param {HTMLElement} root
   * @param {MessageActions} actions
   */
  constructor(root, actions) {
    this.#root = root;
    this.#actions = actions;
  }

  /** Shows the current state of a conversation. @param {ConversationModel} conversation */
  update(conversation) {
    this.#shown.clear();
    const rows = [];
    if (conversation.hasEarlier) {
      rows.push(this.#element(conversation, "earlier", () =>
        el("button", { type: "button", class: "button-secondary earlier", text: "Load earlier messages", onclick: () => this.#actions.loadEarlier(conversation) })));
    }
    for (let at = conversation.tree.root; nextOnPath(at); ) {
      const { node, end } = this.#layOutRow(at);
      rows.push(node);
      at = end;
    }
    setChildren(this.#root, rows);
    this.#discardHidden();
  }

  #discardHidden() {
    for (const owner of this.#elements.keys()) if (!this.#shown.has(owner)) this.#elements.delete(owner);
    for (const [message, view] of this.#views) {
      if (this.#shown.has(message) || view.isBusy) continue;
      this.#views.delete(message);
      message.onChange = () => {};
    }
  }

  /**
   * Lays out what follows a message: one exchange, or several side by side.
   * @returns {{node: HTMLElement, end: MessageNode}} `end`: the last message in `node` that is on the path
   */
  #layOutRow(parent) {
    const selected = nextOnPath(parent);
    if (!parent.sideBySide || parent.children.length < 2) {
      const exchange = this.#layOutExchange(selected);
      setScrollable(exchange.node, false);
      return exchange;
    }
    return this.#layOutColumns(parent, selected);
  }

  #layOutColumns(parent, selected) {
    const { children } = parent;
    const node = this.#element(parent, "columns", () => el("div", { class: "columns", "data-testid": "columns" }));
    node.dataset.count = String(children.length);
    node.dataset.wrap = String(children.length > SINGLE_ROW_COLUMNS_MAX);
    let end = selected;
    const columns = children.map((child) => {
      const { node: exchange, end: columnEnd } = this.#layOutExchange(child);
      const column = this.#element(child, "column", () => el("div", { class: "column" }));
      column.dataset.selected = String(child === selected);
      const button = this.#element(child, "continue", () => el("button", { type: "button", class: "continue-here", onclick: () => this.#onContinue(child) }));
      this.#labelContinueButton(button, child === selected);
      setChildren(column, [exchange, button]);
      setScrollable(column, true);
      if (child === selected) end = columnEnd;
      return column;
    });
    setChildren(node, columns);
    this.#showSelected(node, columns[children.indexOf(selected)]);
    return { node, end };
  }

  /** On a phone, scrolls the strip of columns to the selected one: when another is selected, and when its width changes. */
  #showSelected(node, column) {
    if (this.#selectedColumns.get(node) === column) return;
    this.#selectedColumns.set(node, column);
    this.#widths.unobserve(node);
    this.#widths.observe(node);
  }

  /** Continues the conversation from a column. For the selected column, hides the others. */
  #onContinue(child) {
    if (nextOnPath(child.parent) === child) this.#actions.setSideBySide(child.parent, false);
    else this.#actions.select(child);
  }

  #labelContinueButton(button, isSelected) {
    if (button.getAttribute("aria-pressed") === String(isSelected)) return;
    button.setAttribute("aria-pressed", String(isSelected));
    const label = isSelected ? "Continuing from here" : "Continue from here";
    button.replaceChildren(icon(isSelected ? "down-right" : "chevron-right"), el("span", { text: label }), ...(isSelected ? [el("span", { class: "hide-others", text: "Hide the others" })] : []));
  }

  /** Lays out a message and what follows it up to the next prompt. */
  #layOutExchange(first) {
    const node = this.#element(first, "exchange", () => el("section", { class: "exchange", "data-testid": "exchange" }));
    const children = [];
    let at = first;
    if (at.role === "user") {
      const view = this.#viewOf(at);
      view.update();
      children.push(view.node);
      if (at.sideBySide && at.children.length > 1) {
        const { node: columns, end } = this.#layOutColumns(at, nextOnPath(at));
        setChildren(node, [view.node, columns]);
        return { node, end };
      }
      at = nextOnPath(at);
    }
    let end = first;
    for (; at && at.role !== "user"; at = nextOnPath(at)) {
      end = at;
      if (at.role !== "assistant") continue;
      const view = this.#viewOf(at);
      view.update(at.children.flatMap((child) => (child.role === "tool" ? child.parts : [])));
      children.push(view.node);
    }
    setChildren(node, children);
    return { node, end };
  }

  /** Returns the view of a message; null if it isn't shown. */
  nodeOf(message) {
    return this.#shown.has(message) ? (this.#views.get(message)?.node ?? null) : null;
  }

  #viewOf(message) {
    this.#shown.add(message);
    let view = this.#views.get(message);
    if (!view) {
      view = message.role === "user" ? new PromptView(message, this.#actions) : new AnswerView(message, this.#actions);
      this.#views.set(message, view);
    }
    showTime(view.node, message);
    return view;
  }

  /** Returns an owner's layout element; creates it on the first call. */
  #element(owner, name, create) {
    this.#shown.add(owner);
    const elements = this.#elements.get(owner) ?? new Map();
    this.#elements.set(owner, elements);
    if (!elements.has(name)) elements.set(name, create());
    return elements.get(name);
  }
}

/** Sets whether answers scroll, so that the keyboard has to reach them. */
function setScrollable(node, scrolls) {
  for (const answer of node.querySelectorAll(".turn > .answer")) {
    if (!scrolls && answer.closest(".column")) continue;
    if (scrolls) answer.tabIndex = 0;
    else answer.removeAttribute("tabindex");
  }
}
