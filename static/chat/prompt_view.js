/** What a person said: words and pictures, with edit, copy, and arrows between versions. */

import { copyButton } from "../shared/copy_button.js";
import { el, icon, isComposing, setText } from "../shared/dom.js";
import { imageOf } from "./part_view.js";
import { textOf } from "./message_tree.js";
import { VersionArrows } from "./version_arrows.js";

export class QuestionView {
  node;
  #message;
  #acts;
  #text = el("p", { class: "prompt", "data-testid": "prompt", dir: "auto" });
  #pictures = el("div", { class: "pictures" });
  #bubble;
  #arrows;
  #shown = null;

  /**
   * @param {import("./message_tree.js").MessageNode} message
   * @param {object} acts what can be done: `edit`, `choose`
   */
  constructor(message, acts) {
    this.#message = message;
    this.#acts = acts;
    this.#arrows = new VersionArrows("prompt", acts);
    const edit = el("button", { type: "button", class: "act", "aria-label": "Edit this prompt", title: "Edit this prompt", "data-testid": "edit",
      onclick: () => this.#edit() }, icon("edit"));
    this.#bubble = el("div", { class: "bubble" }, this.#pictures, this.#text);
    const tools = el("div", { class: "acts" }, this.#arrows.node, edit, copyButton(() => textOf(message.parts), "Copy this prompt", false));
    this.node = el("div", { class: "question" }, this.#bubble, tools);
  }

  /** It is being edited. */
  get unfinished() {
    return this.#bubble.parentNode !== this.node;
  }

  /** Shows the message as it now is. */
  settle() {
    this.#arrows.show(this.#message);
    const { parts } = this.#message;
    if (parts === this.#shown) return;
    this.#shown = parts;
    const text = textOf(parts);
    setText(this.#text, text);
    this.#text.hidden = text === "";
    this.#pictures.replaceChildren(...parts.filter(({ kind }) => kind === "image").map(imageOf));
  }

  #edit() {
    const box = el("textarea", { class: "edit-box", "data-testid": "edit-box", "aria-label": "Edit this prompt", dir: "auto" });
    box.value = textOf(this.#message.parts);
    const leave = () => form.replaceWith(this.#bubble);
    const save = () => {
      const text = box.value.trim();
      if (text && text !== textOf(this.#message.parts)) {
        const others = this.#message.parts.filter(({ kind }) => kind !== "text");
        this.#acts.edit(this.#message, [...others, { kind: "text", text }]);
      }
      leave();
    };
    const form = el("form", { class: "edit", onsubmit: (event) => (event.preventDefault(), save()) }, box,
      el("div", { class: "edit-acts" }, el("button", { type: "button", class: "quiet", text: "Cancel", onclick: leave }),
        el("button", { type: "submit", class: "strong", text: "Ask this instead" })));
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        leave();
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        save();
      }
    });
    this.#bubble.replaceWith(form);
    box.focus();
  }
}
