/** The conversations at the left: found by their titles, opened, renamed, deleted; a dot where something streams. */

import { arrange, el, icon, isComposing, setText } from "../shared/dom.js";

const SEARCH_AFTER_MS = 180;
const PAGE = 60;

export class Sidebar {
  #list;
  #note = el("p", { class: "chats-note", role: "alert", "data-testid": "chats-note", hidden: true });
  #search;
  #connection;
  #acts;
  #items = new Map();
  #found = [];
  #next = null;
  #current = null;
  #asked = 0;

  /**
   * @param {HTMLElement} root
   * @param {import("../turnwire.js").Connection} connection
   * @param {{open: (id: string) => void, deleted: (id: string) => void, isLive: (id: string) => boolean}} acts
   */
  constructor(root, connection, acts) {
    this.#list = root.querySelector(".chats");
    this.#list.before(this.#note);
    this.#search = root.querySelector("input[type=search]");
    this.#connection = connection;
    this.#acts = acts;
    let timer = 0;
    this.#search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => void this.refresh(), SEARCH_AFTER_MS);
    });
    this.#search.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#search.value) {
        event.stopPropagation();
        this.#searchNothing();
      } else if (event.key === "ArrowDown") {
        event.preventDefault();
        this.#list.querySelector("a")?.focus();
      }
    });
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  /** Reads the list anew; of several readings the last one counts. */
  async refresh() {
    const asked = ++this.#asked;
    const query = this.#search.value.trim();
    try {
      const answer = await this.#connection.request("conversation.list", { limit: PAGE, ...(query && { query }) });
      if (asked !== this.#asked) return;
      this.#found = answer.conversations;
      this.#next = answer.next ?? null;
      this.#show();
    } catch (error) {
      if (asked === this.#asked && error.code !== "connection_lost") this.#list.replaceChildren(el("li", { class: "none", text: error.message }));
    }
  }

  #searchNothing() {
    this.#search.value = "";
    this.#search.focus();
    void this.refresh();
  }

  /** Says why the list is empty, and what to do. */
  #nothing() {
    const query = this.#search.value.trim();
    if (!query) return el("li", { class: "none", text: "What you ask will be kept here." });
    const said = el("p", { dir: "auto", role: "status", text: `No title has “${query}” in it.` });
    return el("li", { class: "none" }, said, el("button", { type: "button", class: "quiet", text: "Show all", onclick: () => this.#searchNothing() }));
  }

  async #more() {
    const query = this.#search.value.trim();
    const answer = await this.#try("More can't be read", "conversation.list", { limit: PAGE, before: this.#next, ...(query && { query }) });
    if (!answer) return;
    this.#found.push(...answer.conversations);
    this.#next = answer.next ?? null;
    this.#show();
  }

  /** Asks, and says above the list what became of it where it failed; then there is no answer. */
  async #try(failed, type, fields) {
    this.#note.hidden = true;
    try {
      return await this.#connection.request(type, fields);
    } catch (error) {
      setText(this.#note, `${failed}: ${error.message}`);
      this.#note.hidden = false;
      return null;
    }
  }

  /** Marks the conversation that is shown. */
  mark(id) {
    this.#current = id;
    for (const [key, { link }] of this.#items) {
      if (key === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /** Shows where something streams. */
  showLive() {
    for (const [id, { item }] of this.#items) item.dataset.live = String(this.#acts.isLive(id));
  }

  #show() {
    const rows = this.#found.map((conversation) => {
      const known = this.#items.get(conversation.id) ?? this.#make(conversation.id);
      setText(known.link, conversation.title || "Untitled");
      known.link.title = conversation.title ?? "";
      this.#items.set(conversation.id, known);
      return known.item;
    });
    if (rows.length === 0) rows.push(this.#nothing());
    if (this.#next) rows.push(el("li", {}, el("button", { type: "button", class: "quiet", text: "More", onclick: () => void this.#more() })));
    arrange(this.#list, rows);
    this.mark(this.#current);
    this.showLive();
  }

  #make(id) {
    const link = el("a", { class: "chat-link", href: `#${id}`, dir: "auto" });
    const act = (name, label, onclick) =>
      el("button", { type: "button", class: "act", "aria-label": label, title: label, "data-testid": name, onclick }, icon(name));
    const item = el("li", { class: "chat-item", "data-testid": "conversation" }, link,
      act("edit", "Rename", () => this.#rename(id)), act("bin", "Delete", () => this.#confirmDelete(id)));
    return { item, link };
  }

  #rename(id) {
    const { item, link } = this.#items.get(id);
    const box = el("input", { type: "text", class: "rename", maxlength: "300", "aria-label": "Title", dir: "auto" });
    box.value = link.textContent;
    let left = false;
    const leave = async (keep) => {
      if (left) return;
      left = true;
      const title = box.value.trim();
      item.replaceChild(link, box);
      if (keep && title && title !== link.textContent) {
        const before = link.textContent;
        setText(link, title);
        if (!(await this.#try("Not renamed", "conversation.update", { conversation: id, title }))) setText(link, before);
        void this.refresh();
      }
    };
    box.addEventListener("blur", () => void leave(true));
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Enter") void leave(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        void leave(false);
      }
    });
    item.replaceChild(box, link);
    box.focus();
    box.select();
  }

  /** The question takes the row's place, so that a second click in the same spot can't delete. */
  #confirmDelete(id) {
    const { item } = this.#items.get(id);
    const before = [...item.childNodes];
    const back = () => item.replaceChildren(...before);
    const sure = async () => {
      if (!(await this.#try("Not deleted", "conversation.delete", { conversation: id }))) {
        back();
        return;
      }
      this.#items.delete(id);
      this.#found = this.#found.filter((conversation) => conversation.id !== id);
      this.#show();
      this.#acts.deleted(id);
    };
    const keep = el("button", { type: "button", class: "quiet", text: "Keep", onclick: back });
    item.replaceChildren(el("span", { class: "sure", text: "Delete it?" }), keep,
      el("button", { type: "button", class: "quiet bad", text: "Delete", "data-testid": "confirm-delete", onclick: () => void sure() }));
    keep.focus();
  }
}
