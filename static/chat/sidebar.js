/** The list of conversations on the left: search, groups, and what a row's buttons do. It follows changes from elsewhere. */

import { el, setChildren, setText } from "../shared/dom.js";
import { onEscape } from "../shared/escape_stack.js";
import { groupsOf, withChange } from "./conversation_groups.js";
import { ConversationRow } from "./conversation_row.js";

const SEARCH_AFTER_MS = 180;
const PAGE_SIZE = 60;
/** The most that one request returns. */
const LISTED_MAX = 200;
const PINNED_MAX = 100;
/** Conversations that are deleted at the same time. */
const PARALLEL_DELETES = 8;

export class Sidebar {
  #list;
  #error = el("p", { class: "conversations-error", role: "alert", "data-testid": "conversations-error", hidden: true });
  #search;
  #connection;
  #callbacks;
  /** The row of each conversation, by id. @type {Map<string, ConversationRow>} */
  #rows = new Map();
  /** The heading of each group, by its title. */
  #headings = new Map();
  /** The latest first. */
  #conversations = [];
  /** The cursor of the next page; null: there is none. */
  #nextCursor = null;
  /** The search whose results are shown. */
  #listedQuery = "";
  #currentId = null;
  #lastRequest = 0;
  /** @type {import("./select_mode.js").SelectMode | null} */
  #selectMode = null;
  #isFollowing = false;

  /**
   * @param {HTMLElement} root
   * @param {import("../turnwire.js").Connection} connection
   * @param {{onDeleted: (id: string) => void, isStreaming: (id: string) => boolean, leafOf: (id: string) => string | null,
   *   openFound: (id: string, message: string, query: string) => void}} callbacks
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
    this.#list.addEventListener("click", ({ target }) => {
      const item = target.closest(".conversation-item");
      if (item) [...this.#rows.values()].find((row) => row.item === item)?.press(target);
    });
    connection.addEventListener("conversations", ({ detail }) => this.#onChange(detail));
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  /** Follows the changes of the list, and loads it. */
  async follow() {
    if (!this.#isFollowing) {
      this.#isFollowing = true;
      await this.#connection.attachConversations().catch(() => (this.#isFollowing = false)); // it is still loaded after own changes
    }
    await this.refresh();
  }

  /** Loads the list again, with as many conversations as are shown. Of several concurrent calls the last one applies. */
  async refresh() {
    const request = ++this.#lastRequest;
    const query = this.#search.value.trim();
    try {
      const [{ conversations, next }, pinned] = await Promise.all([
        this.#loadPages(query, Math.max(PAGE_SIZE, query === this.#listedQuery ? this.#conversations.length : 0)),
        query ? null : this.#connection.request("conversation.list", { limit: PINNED_MAX, pinned: true }),
      ]);
      if (request !== this.#lastRequest) return;
      const listed = new Set(conversations.map(({ id }) => id));
      this.#conversations = [...conversations, ...(pinned?.conversations ?? []).filter(({ id }) => !listed.has(id))];
      this.#nextCursor = next ?? null;
      this.#listedQuery = query;
      this.#render();
    } catch (error) {
      if (request === this.#lastRequest && error.code !== "connection_lost") this.#list.replaceChildren(el("li", { class: "conversations-empty", text: error.message }));
    }
  }

  async #loadPages(query, count) {
    const conversations = [];
    let next;
    do {
      const limit = Math.min(LISTED_MAX, count - conversations.length);
      const page = await this.#connection.request("conversation.list", { limit, ...(next && { before: next }), ...(query && { query }) });
      conversations.push(...page.conversations);
      next = page.next;
    } while (next && conversations.length < count);
    return { conversations, next };
  }

  /** Applies a change that was made anywhere. The results of a search stay until the next search. */
  #onChange(change) {
    if (change.change === "reattached") return void this.refresh();
    if (this.#search.value.trim() && change.change !== "deleted") return;
    this.#conversations = withChange(this.#conversations, change, this.#nextCursor === null);
    this.#render();
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
    const listed = new Set(page.conversations.map(({ id }) => id));
    this.#conversations = [...this.#conversations.filter(({ id }) => !listed.has(id)), ...page.conversations];
    this.#nextCursor = page.next ?? null;
    this.#render();
  }

  /** Sends a request. If it fails, shows `failure` and the error above the list, and returns null. */
  async #request(failure, type, fields) {
    this.#error.hidden = true;
    try {
      return await this.#connection.request(type, fields);
    } catch (error) {
      this.#showError(failure, error);
      return null;
    }
  }

  #showError(failure, error) {
    setText(this.#error, `${failure}: ${error.message}`);
    this.#error.hidden = false;
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
    const isSearch = this.#search.value.trim() !== "";
    const groups = isSearch ? [{ title: null, conversations: this.#conversations }] : groupsOf(this.#withBusyRows(), new Date());
    const rows = [];
    const items = groups.flatMap(({ title, conversations }) => {
      const members = conversations.map((conversation) => this.#rowOf(conversation));
      rows.push(...members);
      return [...(title ? [this.#headingOf(title)] : []), ...members.map(({ item }) => item)];
    });
    if (rows.length === 0) items.push(this.#createEmptyRow());
    if (this.#nextCursor) items.push(el("li", {}, el("button", { type: "button", class: "button-secondary", text: "Show more", onclick: () => void this.#loadMore() })));
    placeChildren(this.#list, items);
    const shown = new Set(rows);
    for (const [id, row] of this.#rows) if (!shown.has(row)) this.#rows.delete(id);
    this.#selectMode?.update(rows);
    this.setCurrent(this.#currentId);
    this.updateActivity();
  }

  /** Returns the conversations, and those whose rows are being changed, even if another page has deleted them. */
  #withBusyRows() {
    const listed = new Set(this.#conversations.map(({ id }) => id));
    const busy = [...this.#rows.values()].filter((row) => row.isBusy && !listed.has(row.id));
    return [...busy.map((row) => row.record), ...this.#conversations];
  }

  #rowOf(conversation) {
    const { id } = conversation;
    let row = this.#rows.get(id);
    if (!row) {
      row = new ConversationRow(id, {
        rename: (_, title) => this.#rename(id, title),
        delete: () => this.#delete(id),
        openMenu: (_, button) => void this.#openMenu(this.#rows.get(id), button),
        open: () => this.#openFound(id),
        closed: () => this.#render(),
      });
      this.#rows.set(id, row);
    }
    row.update(conversation);
    return row;
  }

  #headingOf(title) {
    if (!this.#headings.has(title)) this.#headings.set(title, el("li", { class: "conversations-group", "data-testid": "group", text: title }));
    return this.#headings.get(title);
  }

  /** Opens a result of a search at its message. */
  #openFound(id) {
    const match = this.#conversations.find((conversation) => conversation.id === id)?.match;
    if (match) this.#callbacks.openFound(id, match.message, this.#search.value.trim());
  }

  async #rename(id, title) {
    const renamed = await this.#request("Couldn't rename", "conversation.update", { conversation: id, title });
    void this.refresh();
    return renamed !== null;
  }

  async #delete(id) {
    if (!(await this.#request("Couldn't delete", "conversation.delete", { conversation: id }))) {
      void this.refresh();
      return false;
    }
    this.#onDeleted(id);
    return true;
  }

  #onDeleted(id) {
    this.#rows.delete(id);
    this.#conversations = this.#conversations.filter((conversation) => conversation.id !== id);
    this.#render();
    this.#callbacks.onDeleted(id);
  }

  async #deleteAll(ids) {
    const waiting = [...ids];
    const deleteNext = async () => {
      for (let id = waiting.shift(); id; id = waiting.shift()) await this.#delete(id);
    };
    await Promise.all(Array.from({ length: PARALLEL_DELETES }, deleteNext));
  }

  async #openMenu(row, button) {
    const { id, record } = row;
    if (button.popoverTargetElement) return; // its menu is open, and this click closes it
    try {
      const { openRowMenu } = await import("./row_menu.js");
      openRowMenu(button, [
        ["Rename", () => row.rename()],
        [record.pinned ? "Unpin" : "Pin", () => void this.#pin(id, !record.pinned)],
        ["Export as Markdown", () => void this.#export(id, "md")],
        ["Export as JSON", () => void this.#export(id, "json")],
        ["Select several", () => void this.#select(id)],
        ["Delete", () => row.confirmDelete()],
      ]);
    } catch (error) {
      this.#showError("Couldn't open the menu", error);
    }
  }

  async #pin(id, pinned) {
    const record = await this.#request(pinned ? "Couldn't pin" : "Couldn't unpin", "conversation.update", { conversation: id, pinned });
    if (record) await this.refresh();
  }

  async #export(id, format) {
    try {
      const { exportConversation } = await import("./export.js");
      await exportConversation(this.#connection, id, format, this.#callbacks.leafOf(id));
    } catch (error) {
      this.#showError("Couldn't export", error);
    }
  }

  async #select(id) {
    try {
      const { SelectMode } = await import("./select_mode.js");
      this.#selectMode ??= new SelectMode(this.#list, (ids) => this.#deleteAll(ids), () => (this.#selectMode = null));
      this.#render();
      this.#selectMode.select(id);
    } catch (error) {
      this.#showError("Couldn't select", error);
    }
  }
}

/**
 * Makes `children` the children of a list. The one with the focus isn't moved, because it would lose it: the others are
 * moved around it.
 */
function placeChildren(list, children) {
  const fixed = children.find((child) => child.contains(document.activeElement));
  if (!fixed || fixed.parentNode !== list) return setChildren(list, children);
  const wanted = new Set(children);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  for (const [index, child] of children.entries()) {
    if (child === fixed) while (list.children[index] !== fixed) list.append(list.children[index]);
    else if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
  }
}
