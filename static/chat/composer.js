/** The prompt box: Enter sends, Shift+Enter adds a line; files are added by paste, drop, or file dialog. */

import { el, icon, isComposing } from "../shared/dom.js";
import { getDraft, setDraft } from "./drafts.js";

export class Composer {
  /** Returns whether the prompt may be sent now. If not, it stays in the box. */
  maySend = () => true;
  /** Called after each change of the prompt or the model. */
  onUpdate = () => {};
  /** Returns the names of the models that can be used and have a feature. @type {(feature: string) => string[]} */
  modelsWith = () => [];
  #form;
  #box;
  #send;
  #attachments;
  #note;
  /** The conversation that is written to. Empty: a new one; null: none yet. */
  #conversationId = null;
  /** The unsent files of each conversation, by its id. @type {Map<string, {part: object, bytes: number, node: HTMLElement}[]>} */
  #filesById = new Map();
  /**
   * The unsent files of the open conversation. Each conversation keeps one array, so that a file that is still being
   * processed is added to the right conversation.
   */
  #files = [];
  /** Resolves when all added files are processed. */
  #processed = Promise.resolve();
  #models;
  /** @type {HTMLElement | null} */
  #overlay = null;
  #isDragging = false;

  /**
   * @param {HTMLFormElement} form
   * @param {(parts: object[]) => void} onSend
   * @param {import("./model_picker.js").ModelPicker} models knows what the selected models accept
   */
  constructor(form, onSend, models) {
    this.#form = form;
    this.#box = form.querySelector("textarea");
    this.#send = form.querySelector(".send");
    this.#attachments = form.querySelector(".attachments");
    this.#note = form.querySelector(".composer-note");
    this.#models = models;
    this.#box.addEventListener("input", () => {
      setDraft(this.#conversationId, this.#box.value);
      this.update();
    });
    this.#box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const files = this.#files;
      // A file pasted just before belongs to the prompt. If another conversation is open by then, nothing is sent.
      void this.#processed.then(() => files === this.#files && this.#submit(onSend));
    });
    this.#listenForFiles();
    this.update();
  }

  focus() {
    this.#box.focus();
  }

  /** The parts of the prompt as they would be sent. */
  get parts() {
    // What the user typed is the first text, as it becomes the title.
    const text = this.#box.value.trim();
    const files = this.#files.map(({ part }) => part);
    return [...files.filter(({ kind }) => kind !== "text"), ...(text ? [{ kind: "text", text }] : []), ...files.filter(({ kind }) => kind === "text")];
  }

  /** Sends the prompt in the box. */
  submit() {
    this.#form.requestSubmit();
  }

  /** Shows the draft and the unsent files of a conversation. @param {string | null} id null: a new one */
  open(id) {
    const conversationId = id ?? "";
    if (conversationId === this.#conversationId) return;
    if (this.#conversationId === null && this.#box.value) { // typed before this script was loaded
      setDraft(conversationId, [getDraft(conversationId), this.#box.value].filter(Boolean).join("\n"));
    }
    this.#conversationId = conversationId;
    this.#files = this.#filesById.get(conversationId) ?? [];
    this.#filesById.set(conversationId, this.#files);
    this.#box.value = getDraft(conversationId);
    this.#attachments.replaceChildren(...this.#files.map(({ node }) => node));
    this.showNote("");
    this.update();
  }

  /** Puts the text of a prompt back that can't be sent as it was. @param {string | null} id null: a new conversation */
  giveBack(id, text, why) {
    const conversationId = id ?? "";
    setDraft(conversationId, [getDraft(conversationId), text].filter(Boolean).join("\n"));
    if (conversationId !== this.#conversationId) return;
    this.#box.value = getDraft(conversationId);
    this.showNote(why);
    this.update();
  }

  /** Sets the id of the new conversation, once the gateway has created it. */
  setConversationId(id) {
    setDraft(this.#conversationId, "");
    this.#filesById.delete(this.#conversationId);
    this.#conversationId = id;
    setDraft(id, this.#box.value);
    this.#filesById.set(id, this.#files);
  }

  /** Updates the buttons for the current text and model. */
  update() {
    this.#send.disabled = this.#box.value.trim() === "" && this.#files.length === 0;
    // Browsers without `field-sizing` size the textarea by its lines.
    if (!CSS.supports("field-sizing", "content")) this.#box.rows = Math.min(8, this.#box.value.split("\n").length);
    this.onUpdate();
  }

  #submit(onSend) {
    const { parts } = this;
    if (parts.length === 0 || !this.maySend()) return;
    this.#box.value = "";
    setDraft(this.#conversationId, "");
    this.#files.length = 0;
    this.#attachments.replaceChildren();
    this.showNote("");
    this.update();
    onSend(parts);
  }

  #listenForFiles() {
    const input = this.#form.querySelector("input[type=file]");
    this.#form.querySelector(".add-file").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      this.#addFiles([...input.files]);
      input.value = "";
    });
    this.#box.addEventListener("paste", (event) => this.#onTransfer(event, event.clipboardData));
    addEventListener("dragenter", (event) => void this.#showOverlay(event));
    addEventListener("dragover", (event) => {
      if (hasFiles(event)) event.preventDefault();
    });
    addEventListener("dragleave", (event) => {
      if (event.relatedTarget !== null) return; // it is still over the page
      this.#isDragging = false;
      this.#overlay?.remove();
    });
    addEventListener("drop", (event) => {
      this.#overlay?.remove();
      this.#isDragging = false;
      this.#onTransfer(event, event.dataTransfer);
    });
  }

  /** Shows that files can be dropped anywhere. */
  async #showOverlay(event) {
    if (event.type !== "dragenter" || !hasFiles(event) || document.querySelector(":modal")) return;
    this.#isDragging = true;
    const { createDropOverlay } = await import("./attachments.js");
    this.#overlay ??= createDropOverlay();
    if (this.#isDragging) document.body.append(this.#overlay);
  }

  #onTransfer(event, transfer) {
    const files = [...(transfer?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    this.#addFiles(files);
  }

  /** Queues files, so that those of two pastes are processed in order. */
  #addFiles(files) {
    const target = this.#files;
    this.#processed = this.#processed.then(() => this.#processFiles(files, target)).catch((error) => this.showNote(error.message));
  }

  /** Adds files to `target`, those of the conversation that was open when they were added. */
  async #processFiles(files, target) {
    const { FILES_MAX, createFileChip, toAttachment } = await import("./attachments.js");
    await this.#models.loaded; // a file may be pasted before the models are known
    const room = FILES_MAX - target.length;
    const notes = files.length > room ? [`A prompt can have ${FILES_MAX} files. The others were not added.`] : [];
    for (const file of files.slice(0, room)) {
      try {
        const context = { supports: (feature) => this.#models.supports(feature), modelsWith: this.modelsWith, added: target };
        const added = await toAttachment(file, context);
        added.node = this.#createThumbnail(added, target, file.name, createFileChip);
        target.push(added);
        if (target === this.#files) this.#attachments.append(added.node);
      } catch (error) {
        const why = error instanceof DOMException ? "it can't be read as an image." : error.message;
        notes.push(error.isGeneral ? why : `${file.name || "The file"}: ${why}`);
      }
    }
    this.showNote([...new Set(notes)].slice(0, 3).join(" "));
    this.update();
  }

  #createThumbnail(added, target, name, createFileChip) {
    const { kind, media_type, data } = added.part;
    const remove = el("button", { type: "button", class: "icon-button", "aria-label": `Remove ${name}`, onclick: () => {
      target.splice(target.indexOf(added), 1);
      thumbnail.remove();
      this.update();
      this.focus();
    } }, icon("close"));
    const shown = kind === "image" ? el("img", { src: `data:${media_type};base64,${data}`, alt: name }) : createFileChip(name, added.bytes);
    const thumbnail = el("span", { class: "thumbnail" }, shown, remove);
    return thumbnail;
  }

  /** Shows a note below the prompt box; an empty one hides it. */
  showNote(text) {
    this.#note.textContent = text;
    this.#note.hidden = text === "";
  }
}

function hasFiles({ dataTransfer }) {
  return Boolean(dataTransfer?.types.includes("Files"));
}
