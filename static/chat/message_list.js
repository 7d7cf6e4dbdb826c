/**
 * Lays a conversation's tree out: the path from top to bottom, and side by side what was asked side by side. Nodes are
 * moved only where their place has changed; what streams inside them is no business of this file. What isn't shown any
 * more is let go of, or a day of conversations would stay in the page: it is drawn again when it is shown again.
 */

import { AnswerView } from "./answer_view.js";
import { arrange, el, icon } from "../shared/dom.js";
import { QuestionView } from "./prompt_view.js";
import { next } from "./message_tree.js";

/** More than these side by side take several rows, and less height each. */
const MANY = 6;

export class Thread {
  #root;
  #acts;
  #views = new Map();
  #frames = new Map();
  /** The messages and what else has a frame that are shown now. */
  #shown = new Set();

  /**
   * @param {HTMLElement} root
   * @param {object} acts what can be done with a message; see AnswerView and QuestionView
   */
  constructor(root, acts) {
    this.#root = root;
    this.#acts = acts;
  }

  /** Shows a conversation as it now stands. */
  show(chat) {
    this.#shown.clear();
    const rows = [];
    if (chat.earlier) {
      rows.push(this.#frame(chat, "earlier", () => el("button", { type: "button", class: "quiet earlier", text: "Earlier messages", onclick: () => this.#acts.earlier(chat) })));
    }
    for (let at = chat.tree.root; next(at); ) {
      const { node, end } = this.#row(at);
      rows.push(node);
      at = end;
    }
    arrange(this.#root, rows);
    this.#letGo();
  }

  #letGo() {
    for (const owner of this.#frames.keys()) if (!this.#shown.has(owner)) this.#frames.delete(owner);
    for (const [message, view] of this.#views) {
      if (this.#shown.has(message) || view.unfinished) continue;
      this.#views.delete(message);
      message.changed = () => {};
    }
  }

  /** What follows a message on the path: one exchange, or several side by side. */
  #row(parent) {
    const onPath = next(parent);
    if (!parent.spread || parent.kids.length < 2) return this.#exchange(onPath);
    const { node, shownEnd } = this.#columns(parent, parent.kids, onPath);
    return { node, end: shownEnd };
  }

  #columns(parent, kids, onPath) {
    const node = this.#frame(parent, "columns", () => el("div", { class: "columns", "data-testid": "columns" }));
    node.dataset.count = String(kids.length);
    node.dataset.many = String(kids.length > MANY);
    let shownEnd = onPath;
    const columns = kids.map((kid) => {
      const { node: inner, end } = this.#exchange(kid);
      const column = this.#frame(kid, "column", () => el("div", { class: "column" }));
      column.dataset.chosen = String(kid === onPath);
      const go = this.#frame(kid, "go", () => el("button", { type: "button", class: "go-on", onclick: () => this.#goOn(kid) }));
      this.#labelGo(go, kid === onPath);
      arrange(column, [inner, go]);
      if (kid === onPath) shownEnd = end;
      return column;
    });
    arrange(node, columns);
    return { node, shownEnd };
  }

  /** A column that isn't gone on from becomes so; of the one that is, the others are folded behind it. */
  #goOn(kid) {
    if (next(kid.parent) === kid) this.#acts.spread(kid.parent, false);
    else this.#acts.choose(kid);
  }

  #labelGo(button, chosen) {
    if (button.getAttribute("aria-pressed") === String(chosen)) return;
    button.setAttribute("aria-pressed", String(chosen));
    const label = chosen ? "Goes on from here" : "Go on from here";
    button.replaceChildren(icon(chosen ? "down-right" : "on"), el("span", { text: label }), ...(chosen ? [el("span", { class: "fold", text: "Fold the others" })] : []));
  }

  /** A message and what follows it up to the next question. */
  #exchange(first) {
    const node = this.#frame(first, "exchange", () => el("section", { class: "exchange", "data-testid": "exchange" }));
    const shown = [];
    let at = first;
    if (at.role === "user") {
      const view = this.#view(at);
      view.settle();
      shown.push(view.node);
      if (at.spread && at.kids.length > 1) {
        const { node: columns, shownEnd } = this.#columns(at, at.kids, next(at));
        arrange(node, [view.node, columns]);
        return { node, end: shownEnd };
      }
      at = next(at);
    }
    let end = first;
    for (; at && at.role !== "user"; at = next(at)) {
      end = at;
      if (at.role !== "assistant") continue;
      const view = this.#view(at);
      view.settle(at.kids.flatMap((kid) => (kid.role === "tool" ? kid.parts : [])));
      shown.push(view.node);
    }
    arrange(node, shown);
    return { node, end };
  }

  #view(message) {
    this.#shown.add(message);
    let view = this.#views.get(message);
    if (!view) {
      view = message.role === "user" ? new QuestionView(message, this.#acts) : new AnswerView(message, this.#acts);
      this.#views.set(message, view);
    }
    return view;
  }

  #frame(owner, name, make) {
    this.#shown.add(owner);
    const frames = this.#frames.get(owner) ?? new Map();
    this.#frames.set(owner, frames);
    if (!frames.has(name)) frames.set(name, make());
    return frames.get(name);
  }
}
