/** The state of one conversation that components show: its messages, its running turns, and its error. */

import { keepAttached } from "../shared/attachment.js";
import { followUnanswered } from "../shared/unanswered.js";
import { Lifetime } from "./lifetime.js";
import { Store } from "./store.js";
import { copyParts, errorOf, isSame, partsOf, viewOf, viewOfAnswer, viewOfInput } from "./views.js";

const AT_FIRST = { messages: [], status: "loading", error: null, title: null, hasMore: false };

export class ConversationStore {
  #holder;
  #id;
  #limit;
  #lifetime = new Lifetime(() => this.#begin(), () => this.#end());
  store = new Store(AT_FIRST, () => this.#snapshot(), () => this.#lifetime.join());
  #leaveHolder;
  #conversation = null;
  #attachment;
  #stopListening = null;
  /** Stored messages, by id. */
  #messages = new Map();
  #views = new WeakMap();
  #head = null;
  #title = null;
  #next = null;
  #isLoading = true;
  #error = null;
  /** The turns at the end of the conversation: those that run, and those that have failed before they were stored. */
  #turns = new Map();
  #lastSent = { fields: null, turn: null };
  /** Grows with each change of the head, so that an answer that is older than the change is ignored. */
  #headChanges = 0;

  constructor(holder, id, limit) {
    this.#holder = holder;
    this.#id = id;
    this.#limit = limit;
  }

  send(fields) {
    if (!this.#lifetime.isActive) throw new Error("The component isn't mounted. Call `send` in an effect or in an event handler.");
    if (this.#lifetime.isRemounted && isSame(fields, this.#lastSent.fields)) return this.#lastSent.turn; // an effect that runs twice
    for (const [id, { turn }] of this.#turns) if (turn.ended) this.#turns.delete(id);
    this.#error = null;
    const turn = this.#conversation.start({ create: true, on_busy: "interrupt", ...fields });
    this.#lastSent = { fields, turn };
    this.#add(turn, fields);
    // A conversation that this turn has created can be attached from now on.
    turn.accepted.then(() => this.#attachNew()).catch(() => {});
    this.store.flush();
    return turn;
  }

  /** Answers the last user's message again, beside its earlier answer. */
  regenerate(fields) {
    const asked = this.store.getSnapshot().messages.findLast(({ role, id }) => role === "user" && id !== null);
    if (!asked) throw new Error("There is no message to answer again. Call `send`.");
    return this.send({ ...fields, parent: asked.id });
  }

  async stop(reason) {
    const running = [...this.#turns.values()].map(({ turn }) => turn).filter(({ ended }) => !ended);
    if (running.length > 0) await this.#holder.connection.cancel(running, reason);
  }

  async loadMore() {
    if (this.#next === null || this.#isLoading) return;
    await this.#load(async () => {
      const page = await this.#page(this.#next);
      this.#next = page.next ?? null;
    });
  }

  #begin() {
    this.#leaveHolder = this.#holder.join();
    this.#holder.share(this.#id, this, true);
    this.#conversation = this.#holder.connection.conversation(this.#id);
    this.#stopListening = listen(this.#conversation, {
      turn: (turn) => this.#add(turn),
      updated: (update) => this.#onUpdated(update),
      reattached: () => void this.#load(() => this.#refresh()),
      deleted: () => this.#onDeleted(),
    });
    this.#attachment = keepAttached(this.#conversation);
    for (const turn of this.#conversation.turns) this.#add(turn);
    void this.#load(async () => {
      if (!(await this.#isAttached())) return;
      await this.#refresh();
      const { turn } = await followUnanswered(this.#holder.connection, this.#id);
      if (turn && this.#lifetime.isActive) this.#add(turn);
    });
  }

  #end() {
    this.#stopListening();
    for (const { unsubscribe } of this.#turns.values()) unsubscribe();
    this.#turns.clear();
    this.#attachment.release();
    this.#holder.share(this.#id, this, false);
    this.store.stop();
    this.#leaveHolder();
  }

  /** Waits until the conversation is attached. Returns false if it doesn't exist yet. */
  async #isAttached() {
    try {
      await this.#attachment.ready;
      return true;
    } catch (error) {
      if (error.code === "not_found") return false;
      throw error;
    }
  }

  /** Attaches to a conversation that has just been created. */
  #attachNew() {
    if (!this.#lifetime.isActive || this.#conversation.attached) return;
    const { ready, release } = keepAttached(this.#conversation);
    ready.catch(() => {}).finally(release);
  }

  async #load(work) {
    this.#isLoading = true;
    this.#error = null;
    this.store.change();
    try {
      await work();
    } catch (error) {
      if (error.code !== "withdrawn" && this.#lifetime.isActive) this.#error = error;
    }
    this.#isLoading = false;
    if (this.#lifetime.isActive) this.store.change();
  }

  /** Reads the head and the newest messages. */
  async #refresh() {
    const changes = this.#headChanges;
    const known = new Set(this.#messages.keys());
    const [record, page] = await Promise.all([this.#conversation.get(), this.#page()]);
    if (changes === this.#headChanges) this.#head = record.head;
    this.#title = record.title;
    if (!page.messages.some(({ id }) => known.has(id))) this.#next = page.next ?? null;
  }

  async #page(before) {
    const fields = { conversation: this.#id, limit: this.#limit, ...(before && { before }) };
    const page = await this.#holder.connection.request("conversation.messages", fields);
    for (const message of page.messages) this.#keep(message);
    return page;
  }

  #keep(message) {
    this.#messages.set(message.id, message);
  }

  #onUpdated({ head, title }) {
    this.#title = title;
    if (head !== this.#head) {
      this.#head = head;
      this.#headChanges++;
      // Turns that run now don't move the head of a conversation that was cleared.
      if (head === null) for (const entry of this.#turns.values()) entry.isCleared = true;
      else if (!this.#messages.has(head)) void this.#load(() => this.#refresh());
    }
    this.store.change();
  }

  #onDeleted() {
    this.#messages.clear();
    this.#head = this.#title = this.#next = null;
    this.#headChanges++;
    this.store.change();
  }

  #add(turn, { input, parent } = {}) {
    if (this.#turns.has(turn.id) || this.#messages.has(turn.messageId)) return;
    const entry = { turn, asked: input && partsOf(input), parent, parts: [], isCleared: false, view: null, inputView: null };
    entry.unsubscribe = turn.subscribe(() => this.#onTurnChanged(entry));
    this.#turns.set(turn.id, entry);
    this.#onTurnChanged(entry);
  }

  #onTurnChanged(entry) {
    entry.view = null;
    if (entry.turn.ended && entry.turn.messageId !== null && !entry.turn.ending.local) this.#settle(entry);
    this.store.change();
  }

  /** Keeps the messages of a turn that has ended as stored ones. */
  #settle(entry) {
    const { turn, asked } = entry;
    const { input, messageId: id, parentId: parent, model, ending } = turn;
    const { usage, cost, timing, finish_reason, by, reason, error } = ending;
    if (input) this.#keep({ ...input, ...(asked && { parts: asked }), turn: turn.id });
    const answer = { id, role: "assistant", parts: turn.parts, parent, turn: turn.id, model, ended: turn.status };
    this.#keep({ ...answer, usage, cost, timing, finish_reason, by, reason, error });
    if (error) this.#error = errorOf(ending);
    entry.unsubscribe();
    this.#turns.delete(turn.id);
    if (!entry.isCleared) {
      this.#head = id;
      this.#headChanges++;
    }
    // The text of a long message is cut in the events of a turn.
    if (input?.truncated && !asked) void this.#page().then(this.store.change, () => {});
  }

  #snapshot() {
    const entries = [...this.#turns.values()];
    const last = entries.at(-1);
    const running = entries.filter(({ turn }) => !turn.ended);
    const path = this.#pathTo(last === undefined ? this.#head : this.#anchorOf(last));
    const messages = [...path.map((message) => this.#viewOf(message)), ...entries.flatMap(viewsOf)];
    const failed = entries.findLast(({ turn }) => turn.status === "failed");
    const error = this.#error ?? errorOf(failed?.turn.ending);
    const hasMore = this.#next !== null && (path.length === 0 || path[0].parent !== null);
    return { messages, status: statusOf(running, error, this.#isLoading), error, title: this.#title, hasMore };
  }

  /** Returns the stored message below which a turn is shown. */
  #anchorOf({ turn, parent }) {
    const anchor = turn.input ? turn.input.parent : (turn.parentId ?? parent);
    return anchor !== undefined && anchor !== null && this.#messages.has(anchor) ? anchor : this.#head;
  }

  #pathTo(id) {
    const path = [];
    for (let message = this.#messages.get(id); message; message = this.#messages.get(message.parent)) path.push(message);
    return path.reverse();
  }

  #viewOf(message) {
    if (!this.#views.has(message)) this.#views.set(message, viewOf(message));
    return this.#views.get(message);
  }
}

/** Returns the messages of a running turn. */
function viewsOf(entry) {
  const { turn, asked } = entry;
  const parts = asked ?? turn.input?.parts;
  if (parts && entry.inputView?.id !== (turn.input?.id ?? null)) entry.inputView = null;
  if (parts) entry.inputView ??= viewOfInput(turn, parts);
  if (entry.view === null) {
    entry.parts = copyParts(turn.parts, entry.parts);
    entry.view = viewOfAnswer(turn, entry.parts);
  }
  return entry.inputView ? [entry.inputView, entry.view] : [entry.view];
}

function statusOf(running, error, isLoading) {
  if (running.some(({ turn }) => turn.parts.length > 0)) return "streaming";
  if (running.length > 0) return "submitted";
  if (error) return "error";
  return isLoading ? "loading" : "ready";
}

/** Listens to events, whose handlers get their details. Returns a function that ends that. */
function listen(target, handlers) {
  const listeners = Object.entries(handlers).map(([name, handle]) => [name, ({ detail }) => handle(detail)]);
  for (const [name, listener] of listeners) target.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of listeners) target.removeEventListener(name, listener);
  };
}

