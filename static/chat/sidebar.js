/** The list of conversations on the left: search, open, rename, delete. A dot marks those that are streaming. */

import { el, icon, isComposing, setChildren, setText } from "../shared/dom.js";
import { onEscape } from "../shared/escape_stack.js";

const SEARCH_AFTER_MS = 180;
const PAGE_SIZE = 60;

export class Sidebar {
  #list;
  #error = el("p", { class: "conversations-error", role: "alert", "data-testid": "conversations-error", hidden: true });
  #search;
  #connection;
  #callbacks;
  /** The row of each conversation, by id: `{item, link}`. */
  #rows = new Map();
  #conversations = [];
  /** The cursor of the next page; null: there is none. */
  #nextCursor = null;
  #currentId = null;
  #lastRequest = 0;

  /**
   * @param {HTMLElement} root
   * @param {import("../turnwire.js").Connection} connection
   * @param {{onDeleted: (id: string) => void, isStreaming: (id: string) => boolean}} callbacks
   */
  constructor(root, connection, callbacks) {
    this.#list = root.querySelector(".conversations");
    this.#list.before(this.#error);
    this.#search = root.querySelector("input[type=search]");
    this.#connection = connection;
    this.#callbacks = callbacks;
    let timer = 0;
    this.#search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => void this.refresh(), SEARCH_AFTER_MS);
    });
    this.#search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") {
        event.preventDefault();
        this.#list.querySelector("a")?.focus();
      }
    });
    onEscape(this.#search, () => this.#clearSearch(), () => this.#search.value !== "" && document.activeElement === this.#search);
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  /** Loads the list again. Of several concurrent calls the last one applies. */
  async refresh() {
    const request = ++this.#lastRequest;
    const query = this.#search.value.trim();
    try {
      const { conversations, next } = await this.#connection.request("conversation.list", { limit: PAGE_SIZE, ...(query && { query }) });
      if (request !== this.#lastRequest) return;
      this.#conversations = conversations;
      this.#nextCursor = next ?? null;
      this.#render();
    } catch (error) {
      if (request === this.#lastRequest && error.code !== "connection_lost") this.#list.replaceChildren(el("li", { class: "conversations-empty", text: error.message }));
    }
  }

  #clearSearch() {
    this.#search.value = "";
    this.#search.focus();
    void this.refresh();
  }

  /** Creates the row of an empty list, with the reason and what to do. */
  #createEmptyRow() {
    const query = this.#search.value.trim();
    if (!query) return el("li", { class: "conversations-empty", text: "Your conversations appear here." });
    const text = el("p", { dir: "auto", role: "status", text: `No conversations match “${query}”.` });
    return el("li", { class: "conversations-empty" }, text, el("button", { type: "button", class: "button-secondary", text: "Show all", onclick: () => this.#clearSearch() }));
  }

  async #loadMore() {
    const query = this.#search.value.trim();
    const page = await this.#request("Couldn't load more", "conversation.list", { limit: PAGE_SIZE, before: this.#nextCursor, ...(query && { query }) });
    if (!page) return;
    this.#conversations.push(...page.conversations);
    this.#nextCursor = page.next ?? null;
    this.#render();
  }

  /** Sends a request. If it fails, shows `failure` and the error above the list, and returns null. */
  async #request(failure, type, fields) {
    this.#error.hidden = true;
    try {
      return await this.#connection.request(type, fields);
    } catch (error) {
      setText(this.#error, `${failure}: ${error.message}`);
      this.#error.hidden = false;
      return null;
    }
  }

  /** Marks the conversation that is shown. @param {string | null} id */
  setCurrent(id) {
    this.#currentId = id;
    for (const [key, { link }] of this.#rows) {
      if (key === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /** Updates the dots of the conversations that are streaming. */
  updateActivity() {
    for (const [id, { item }] of this.#rows) item.dataset.streaming = String(this.#callbacks.isStreaming(id));
  }

  #render() {
    const items = this.#conversations.map(({ id, title, match }) => {
      const row = this.#rows.get(id) ?? this.#createRow(id);
      setText(row.link, title || "Untitled");
      row.link.title = title ?? "";
      setText(row.snippet, match?.snippet ?? "");
      row.snippet.hidden = !match;
      this.#rows.set(id, row);
      return row.item;
    });
    if (items.length === 0) items.push(this.#createEmptyRow());
    if (this.#nextCursor) items.push(el("li", {}, el("button", { type: "button", class: "button-secondary", text: "Show more", onclick: () => void this.#loadMore() })));
    setChildren(this.#list, items);
    this.setCurrent(this.#currentId);
    this.updateActivity();
  }

  #createRow(id) {
    const link = el("a", { class: "conversation-link", href: `#${id}`, dir: "auto" });
    const button = (symbol, label, onclick) =>
      el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, "data-testid": symbol, onclick }, icon(symbol));
    const snippet = el("span", { class: "conversation-snippet", "data-testid": "snippet", dir: "auto" });
    const item = el("li", { class: "conversation-item", "data-testid": "conversation" }, link,
      button("edit", "Rename", () => this.#rename(id)), button("trash", "Delete", () => this.#confirmDelete(id)), snippet);
    return { item, link, snippet };
  }

  #rename(id) {
    const { item, link } = this.#rows.get(id);
    const box = el("input", { type: "text", class: "rename", maxlength: "300", "aria-label": "Title", dir: "auto" });
    box.value = link.textContent;
    let isClosed = false;
    const close = async (save) => {
      if (isClosed) return;
      isClosed = true;
      release();
      const title = box.value.trim();
      item.replaceChild(link, box);
      if (save && title && title !== link.textContent) {
        const before = link.textContent;
        setText(link, title);
        if (!(await this.#request("Couldn't rename", "conversation.update", { conversation: id, title }))) setText(link, before);
        void this.refresh();
      }
    };
    box.addEventListener("blur", () => void close(true));
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Enter") void close(true);
    });
    const release = onEscape(box, () => {
      void close(false);
      link.focus();
    });
    item.replaceChild(box, link);
    box.focus();
    box.select();
  }

  /** Replaces the row by a confirmation. The Delete button is in another place, so that a double click can't delete. */
  #confirmDelete(id) {
    const { item } = this.#rows.get(id);
    const before = [...item.childNodes];
    const restore = () => {
      release();
      item.replaceChildren(...before);
      item.querySelector("[data-testid=trash]").focus();
    };
    const confirm = async () => {
      if (!(await this.#request("Couldn't delete", "conversation.delete", { conversation: id }))) {
        restore();
        return;
      }
      release();
      this.#rows.delete(id);
      this.#conversations = this.#conversations.filter((conversation) => conversation.id !== id);
      this.#render();
      this.#callbacks.onDeleted(id);
    };
    const cancel = el("button", { type: "button", class: "button-secondary", text: "Cancel", onclick: restore });
    const question = el("span", { class: "confirm-text", text: "Delete?" });
    const release = onEscape(question, restore);
    item.replaceChildren(question, cancel,
      el("button", { type: "button", class: "button-secondary danger", text: "Delete", "data-testid": "confirm-delete", onclick: () => void confirm() }));
    cancel.focus();
  }
}
