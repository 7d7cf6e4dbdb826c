/** Selects several conversations of the list, to delete them with one question. Shift selects a range. */

import { el, setText } from "../shared/dom.js";
import { onEscape } from "../shared/escape_stack.js";

export class SelectMode {
  #list;
  #rows = [];
  #selected = new Set();
  #last = null;
  #count = el("span", { class: "confirm-text", role: "status" });
  #delete = el("button", { type: "button", class: "button-secondary danger", text: "Delete", "data-testid": "delete-selected", onclick: () => this.#ask() });
  #bar;
  #onEnd;
  #deleteAll;
  #release;
  #releaseQuestion = () => {};
  #onClick = (event) => this.#click(event);

  /**
   * @param {HTMLElement} list
   * @param {(ids: string[]) => Promise<void>} deleteAll
   * @param {() => void} onEnd
   */
  constructor(list, deleteAll, onEnd) {
    this.#list = list;
    this.#deleteAll = deleteAll;
    this.#onEnd = onEnd;
    this.#bar = el("div", { class: "select-bar", role: "group", "aria-label": "Selection", "data-testid": "select-bar" });
    list.before(this.#bar);
    list.dataset.selecting = "";
    list.addEventListener("click", this.#onClick, { capture: true });
    this.#release = onEscape(list.parentElement, () => this.end());
    this.#showBar();
  }

  /** Shows the rows' boxes. @param {import("./conversation_row.js").ConversationRow[]} rows in the order of the list */
  update(rows) {
    this.#rows = rows;
    const ids = new Set(rows.map(({ id }) => id));
    for (const id of this.#selected) if (!ids.has(id)) this.#selected.delete(id);
    for (const row of rows) this.#boxOf(row).checked = this.#selected.has(row.id);
    this.#showCount();
  }

  select(id) {
    this.#selected.add(id);
    this.#last = id;
    this.update(this.#rows);
    this.#rows.find((row) => row.id === id)?.item.querySelector(".select-box").focus();
  }

  end() {
    this.#release();
    this.#releaseQuestion();
    this.#list.removeEventListener("click", this.#onClick, { capture: true });
    for (const { item } of this.#rows) item.querySelector(".select-box")?.remove();
    delete this.#list.dataset.selecting;
    this.#bar.remove();
    this.#onEnd();
  }

  #boxOf({ item, link }) {
    let box = item.querySelector(".select-box");
    if (!box) item.prepend((box = el("input", { type: "checkbox", class: "select-box" })));
    box.setAttribute("aria-label", `Select ${link.textContent}`);
    return box;
  }

  /** Selects instead of opening. */
  #click(event) {
    const row = this.#rows.find(({ item }) => item.contains(event.target));
    if (!row || !event.target.closest(".select-box, .conversation-link")) return;
    event.stopPropagation();
    const isBox = event.target.matches(".select-box");
    if (!isBox) event.preventDefault();
    const wanted = isBox ? event.target.checked : !this.#selected.has(row.id);
    for (const { id } of event.shiftKey ? this.#range(row) : [row]) {
      if (wanted) this.#selected.add(id);
      else this.#selected.delete(id);
    }
    this.#last = row.id;
    this.update(this.#rows);
  }

  #range(row) {
    const from = this.#rows.findIndex(({ id }) => id === this.#last);
    const to = this.#rows.indexOf(row);
    return from < 0 ? [row] : this.#rows.slice(Math.min(from, to), Math.max(from, to) + 1);
  }

  #showBar() {
    this.#releaseQuestion();
    const done = el("button", { type: "button", class: "button-secondary", text: "Done", onclick: () => this.end() });
    this.#bar.replaceChildren(this.#count, done, this.#delete);
    this.#showCount();
  }

  #showCount() {
    setText(this.#count, `${this.#selected.size} selected`);
    this.#delete.disabled = this.#selected.size === 0;
  }

  /** Asks once for all of them. Cancel has the place of the button that was pressed. */
  #ask() {
    const ids = [...this.#selected];
    const name = ids.length === 1 ? "1 conversation" : `${ids.length} conversations`;
    const confirm = el("button", { type: "button", class: "button-secondary danger", text: "Delete", "data-testid": "confirm-delete-selected", onclick: async () => {
      confirm.disabled = true;
      await this.#deleteAll(ids);
      this.end();
    } });
    const cancel = el("button", { type: "button", class: "button-secondary", text: "Cancel", onclick: () => this.#showBar() });
    this.#releaseQuestion = onEscape(this.#bar, () => {
      this.#showBar();
      this.#delete.focus();
    });
    this.#bar.replaceChildren(el("span", { class: "confirm-text", role: "alert", text: `Delete ${name}?` }), confirm, cancel);
    cancel.focus();
  }
}
