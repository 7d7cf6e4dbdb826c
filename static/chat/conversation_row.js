/** A row of the list of conversations: its link, its buttons, and what takes their place: the title's box and the question. */

import { el, icon, isComposing, setText } from "../shared/dom.js";
import { onEscape } from "../shared/escape_stack.js";

export class ConversationRow {
  item;
  link;
  snippet;
  /** Whether its title is being changed, or the question whether to delete it is open. */
  isBusy = false;
  /** The conversation as it was last shown. */
  record = null;
  #actions;
  /** What a press on the link or on a button does. The list has one listener for the presses of all rows. */
  #onPress;

  /**
   * @param {string} id
   * @param {{rename: (id: string, title: string) => Promise<boolean>, delete: (id: string) => Promise<boolean>,
   *   openMenu: (id: string, button: HTMLElement) => void, open: () => void, closed: () => void}} actions the first two
   *   resolve with whether it worked; `open` is called when its link is followed, `closed` when it isn't busy any more
   */
  constructor(id, actions) {
    this.id = id;
    this.#actions = actions;
    this.link = el("a", { class: "conversation-link", href: `#${id}`, dir: "auto" });
    this.snippet = el("span", { class: "conversation-snippet", "data-testid": "snippet", dir: "auto" });
    const button = (symbol, label) =>
      el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, "data-testid": symbol }, icon(symbol));
    const [edit, trash, more] = [button("edit", "Rename"), button("trash", "Delete"), button("more", "More")];
    more.setAttribute("aria-haspopup", "menu");
    this.item = el("li", { class: "conversation-item", "data-testid": "conversation" }, this.link, edit, trash, more, this.snippet);
    this.#onPress = new Map([
      [this.link, () => actions.open()],
      [edit, () => this.rename()],
      [trash, () => this.confirmDelete()],
      [more, () => actions.openMenu(id, more)],
    ]);
  }

  /** Does what a press on an element of the row means. */
  press(target) {
    this.#onPress.get(target.closest("a, button"))?.();
  }

  /** Shows a conversation's record. */
  update(record) {
    const { title, match, pinned } = record;
    this.record = record;
    setText(this.link, title || "Untitled");
    this.link.title = title ?? "";
    this.item.dataset.pinned = String(Boolean(pinned));
    setText(this.snippet, match?.snippet ?? "");
    this.snippet.hidden = !match;
  }

  /** Changes the title in its place. */
  rename() {
    const before = this.link.textContent;
    const box = el("input", { type: "text", class: "rename", maxlength: "300", "aria-label": "Title", dir: "auto" });
    box.value = before;
    this.isBusy = true;
    const close = async (save) => {
      if (!this.isBusy) return;
      this.isBusy = false;
      release();
      const title = box.value.trim();
      if (box.parentNode === this.item) this.item.replaceChild(this.link, box);
      if (!save || !title || title === before) return this.#actions.closed();
      setText(this.link, title);
      if (!(await this.#actions.rename(this.id, title))) setText(this.link, before);
    };
    box.addEventListener("blur", () => void close(true));
    box.addEventListener("keydown", (event) => {
      if (!isComposing(event) && event.key === "Enter") void close(true);
    });
    const release = onEscape(box, () => {
      void close(false);
      this.link.focus();
    });
    this.item.replaceChild(box, this.link);
    box.focus();
    box.select();
  }

  /** Replaces the row by a question. Cancel is where the button was, so that a double click can't delete. */
  confirmDelete() {
    const before = [...this.item.childNodes].filter((node) => !node.popover); // its menu is about to go
    this.isBusy = true;
    const restore = () => {
      release();
      this.isBusy = false;
      this.item.replaceChildren(...before);
      this.item.querySelector("[data-testid=trash]").focus();
      this.#actions.closed();
    };
    const confirm = async () => {
      if (await this.#actions.delete(this.id)) release();
      else restore();
    };
    const cancel = el("button", { type: "button", class: "button-secondary", text: "Cancel", onclick: restore });
    const question = el("span", { class: "confirm-text", text: "Delete?" });
    const release = onEscape(this.item, restore);
    this.item.replaceChildren(question,
      el("button", { type: "button", class: "button-secondary danger", text: "Delete", "data-testid": "confirm-delete", onclick: () => void confirm() }), cancel);
    cancel.focus();
  }
}
