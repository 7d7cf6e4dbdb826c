/** The view of a prompt: text and images, with edit, copy, and a switch between versions. */

import { copyButton } from "../shared/copy_button.js";
import { el, icon, isComposing, setText } from "../shared/dom.js";
import { onEscape } from "../shared/escape_stack.js";
import { textOf } from "./message_tree.js";
import { createImage } from "./part_view.js";
import { VersionArrows } from "./version_arrows.js";

export class PromptView {
  node;
  #message;
  #actions;
  #text = el("p", { class: "prompt", "data-testid": "prompt", dir: "auto" });
  #images = el("div", { class: "images" });
  #bubble;
  #arrows;
  #shownParts = null;

  /**
   * @param {import("./message_tree.js").MessageNode} message
   * @param {object} actions `edit`, `select`, `setSideBySide`; see MessageList
   */
  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    this.#arrows = new VersionArrows("prompt", actions);
    const edit = el("button", { type: "button", class: "icon-button", "aria-label": "Edit prompt", title: "Edit prompt", "data-testid": "edit",
      onclick: () => this.#edit() }, icon("edit"));
    this.#bubble = el("div", { class: "bubble" }, this.#images, this.#text);
    const toolbar = el("div", { class: "actions" }, this.#arrows.node, edit, copyButton(() => textOf(message.parts), "Copy prompt", false));
    this.node = el("div", { class: "prompt-view" }, this.#bubble, toolbar);
  }

  /** Whether it is being edited, so that it must not be discarded. */
  get isBusy() {
    return this.#bubble.parentNode !== this.node;
  }

  /** Shows the current state of the message. */
  update() {
    this.#arrows.update(this.#message);
    const { parts } = this.#message;
    if (parts === this.#shownParts) return;
    this.#shownParts = parts;
    const text = textOf(parts);
    setText(this.#text, text);
    this.#text.hidden = text === "";
    this.#images.replaceChildren(...parts.filter(({ kind }) => kind === "image").map(createImage));
  }

  #edit() {
    const box = el("textarea", { class: "edit-box", "data-testid": "edit-box", "aria-label": "Edit prompt", dir: "auto" });
    box.value = textOf(this.#message.parts);
    const close = () => {
      const hadFocus = form.contains(document.activeElement);
      release();
      form.replaceWith(this.#bubble);
      if (hadFocus) this.node.querySelector("[data-testid=edit]").focus({ preventScroll: true });
    };
    const submit = () => {
      const text = box.value.trim();
      if (text && text !== textOf(this.#message.parts)) {
        const others = this.#message.parts.filter(({ kind }) => kind !== "text");
        this.#actions.edit(this.#message, [...others, { kind: "text", text }]);
      }
      close();
    };
    const form = el("form", { class: "edit", onsubmit: (event) => (event.preventDefault(), submit()) }, box,
      el("div", { class: "edit-actions" }, el("button", { type: "button", class: "button-secondary", text: "Cancel", onclick: close }),
        el("button", { type: "submit", class: "button-primary", text: "Send" })));
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        submit();
      }
    });
    const release = onEscape(form, close);
    this.#bubble.replaceWith(form);
    box.focus();
  }
}
