/** The view of a prompt: text and images, with edit, copy, and a switch between versions. */

import { copyButton } from "../shared/copy_button.js";
import { el, icon, isComposing, setText } from "../shared/dom.js";
import { onEscape } from "../shared/escape_stack.js";
import { fileTextName } from "./file_text.js";
import { createImage } from "./image_view.js";
import { textOf } from "./message_tree.js";
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
    const text = typedText(parts);
    setText(this.#text, text);
    this.#text.hidden = text === "";
    this.#images.replaceChildren(...parts.flatMap((part) => {
      if (part.kind === "image") return [createImage(part)];
      const name = part.kind === "file" ? (part.name ?? part.media_type ?? "File") : fileTextName(part);
      return name === null ? [] : [createFile(name, part)];
    }));
  }

  #edit() {
    const box = el("textarea", { class: "edit-box", "data-testid": "edit-box", "aria-label": "Edit prompt", dir: "auto" });
    const before = typedText(this.#message.parts);
    box.value = before;
    const close = () => {
      const hadFocus = form.contains(document.activeElement);
      release();
      form.replaceWith(this.#bubble);
      if (hadFocus) this.node.querySelector("[data-testid=edit]").focus({ preventScroll: true });
    };
    const submit = () => {
      const text = box.value.trim();
      if (text && text !== before) {
        const others = this.#message.parts.filter((part) => part.kind !== "text" || fileTextName(part) !== null);
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

/** Returns the text without that of text files. */
function typedText(parts) {
  return textOf(parts.filter((part) => fileTextName(part) === null));
}

/** Creates the view of a file in a prompt. The content of a text file can be opened. */
function createFile(name, { kind, text }) {
  const title = [icon("clip"), el("span", { class: "file-name", dir: "auto", text: name })];
  if (kind === "file") return el("p", { class: "file-chip", "data-testid": "file-chip" }, ...title);
  const content = text.slice(text.indexOf("\n", text.indexOf("\n") + 1) + 1, text.lastIndexOf("\n"));
  return el("details", { class: "file-text", "data-testid": "file-chip" }, el("summary", { class: "file-chip" }, ...title), el("pre", { dir: "auto", tabindex: "0", role: "group", "aria-label": name, text: content }));
}
