/**
 * The system prompt of the shown conversation: a box in the settings, and a line above the messages. It is saved in the
 * conversation. That of a new conversation is kept in this tab, and its first start carries it.
 */

import { setText } from "../shared/dom.js";
import { getDraft, setDraft } from "./drafts.js";

const DRAFT = "system ";
const SAVE_AFTER_MS = 600;
const SHOWN_CHARS = 80;

export class SystemPrompt {
  #box;
  #note;
  #line;
  #save;
  /** @type {import("./conversation_model.js").ConversationModel} */
  #conversation = null;
  #timer = 0;

  /**
   * @param {HTMLTextAreaElement} box
   * @param {HTMLElement} note says why it isn't saved
   * @param {HTMLButtonElement} line shows its beginning
   * @param {(conversation: ConversationModel, system: string) => Promise<object>} save returns the conversation's record
   */
  constructor(box, note, line, save) {
    this.#box = box;
    this.#note = note;
    this.#line = line;
    this.#save = save;
    box.addEventListener("input", () => this.#onInput());
    box.addEventListener("blur", () => this.flush());
    addEventListener("pagehide", () => this.flush());
  }

  /** Shows the system prompt of another conversation. Saves that of the former one. */
  open(conversation) {
    if (conversation === this.#conversation) return;
    this.flush();
    this.#conversation = conversation;
    if (!conversation.id) conversation.newSystem ??= getDraft(DRAFT);
    this.#showNote("");
    this.update();
  }

  /** Shows the conversation's current system prompt, unless the user has changed it here. */
  update() {
    const conversation = this.#conversation;
    const isLoaded = !conversation.id || conversation.info !== null;
    this.#box.disabled = !isLoaded || conversation.notFound;
    const text = conversation.unsavedSystem ?? systemOf(conversation);
    if (this.#box.value !== text) this.#box.value = text;
    const line = text.trimStart().slice(0, 4 * SHOWN_CHARS).replace(/\s+/g, " ").trimEnd();
    setText(this.#line.lastElementChild, line.length > SHOWN_CHARS ? `${line.slice(0, SHOWN_CHARS)}…` : line);
    this.#line.hidden = line === "";
  }

  /** The conversation was created with this system prompt. What was typed since then is saved. */
  onCreated(conversation) {
    const sent = conversation.sentSystem ?? "";
    const typed = conversation.newSystem ?? "";
    conversation.info = { ...conversation.info, system: sent };
    if (typed.trim() !== sent) {
      conversation.unsavedSystem = typed;
      void this.#saveNow(conversation);
    }
    if (conversation === this.#conversation) this.update();
  }

  /** The first start of a new conversation was made. The next new conversation begins without its prompt. */
  onFirstStart() {
    setDraft(DRAFT, "");
  }

  /** Saves a change now. */
  flush() {
    clearTimeout(this.#timer);
    if (this.#conversation?.unsavedSystem != null) void this.#saveNow(this.#conversation);
  }

  #onInput() {
    const conversation = this.#conversation;
    const text = this.#box.value;
    if (!conversation.id) {
      conversation.newSystem = text;
      if (conversation.tree.isEmpty) setDraft(DRAFT, text);
    } else {
      conversation.unsavedSystem = text;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.flush(), SAVE_AFTER_MS);
    }
    this.update();
  }

  async #saveNow(conversation) {
    const system = conversation.unsavedSystem.trim();
    let failure = "";
    try {
      if (system !== systemOf(conversation)) conversation.info = { ...conversation.info, ...(await this.#save(conversation, system)) };
      if (conversation.unsavedSystem?.trim() === system) conversation.unsavedSystem = null;
    } catch (error) {
      failure = `Not saved: ${error.message}`;
    }
    if (conversation !== this.#conversation) return;
    this.#showNote(failure);
    if (document.activeElement !== this.#box) this.update();
  }

  #showNote(text) {
    setText(this.#note, text);
    this.#note.hidden = text === "";
  }
}

function systemOf(conversation) {
  return (conversation.id ? conversation.info?.system : conversation.newSystem) ?? "";
}
