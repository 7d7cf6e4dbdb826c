/** The prompt box: Enter sends, Shift+Enter adds a line; images are added by paste, drop, or file dialog. */

import { el, icon, isComposing } from "../shared/dom.js";
import { getDraft, setDraft } from "./drafts.js";
import { toImagePart } from "./image_resize.js";

const IMAGES_MAX = 4;

export class Composer {
  /** Returns whether the prompt may be sent now. If not, it stays in the box. */
  maySend = () => true;
  #form;
  #box;
  #send;
  #attachments;
  #note;
  /** The conversation that is written to. Empty: a new one; null: none yet. */
  #conversationId = null;
  /** The unsent images of each conversation, by its id. @type {Map<string, {part: object, node: HTMLElement}[]>} */
  #imagesById = new Map();
  /**
   * The unsent images of the open conversation. Each conversation keeps one array, so that an image that is still being
   * processed is added to the right conversation.
   */
  #images = [];
  /** Resolves when all added files are processed. */
  #processed = Promise.resolve();
  #models;

  /**
   * @param {HTMLFormElement} form
   * @param {(parts: object[]) => void} onSend
   * @param {import("./model_picker.js").ModelPicker} models knows whether the selected models accept images
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
      const images = this.#images;
      // An image pasted just before belongs to the prompt. If another conversation is open by then, nothing is sent.
      void this.#processed.then(() => images === this.#images && this.#submit(onSend));
    });
    this.#listenForFiles();
    this.update();
  }

  focus() {
    this.#box.focus();
  }

  /** Sends the prompt in the box. */
  submit() {
    this.#form.requestSubmit();
  }

  /** Shows the draft and the unsent images of a conversation. @param {string | null} id null: a new one */
  open(id) {
    const conversationId = id ?? "";
    if (conversationId === this.#conversationId) return;
    if (this.#conversationId === null && this.#box.value) { // typed before this script was loaded
      setDraft(conversationId, [getDraft(conversationId), this.#box.value].filter(Boolean).join("\n"));
    }
    this.#conversationId = conversationId;
    this.#images = this.#imagesById.get(conversationId) ?? [];
    this.#imagesById.set(conversationId, this.#images);
    this.#box.value = getDraft(conversationId);
    this.#attachments.replaceChildren(...this.#images.map(({ node }) => node));
    this.showNote("");
    this.update();
  }

  /** Sets the id of the new conversation, once the gateway has created it. */
  setConversationId(id) {
    setDraft(this.#conversationId, "");
    this.#imagesById.delete(this.#conversationId);
    this.#conversationId = id;
    setDraft(id, this.#box.value);
    this.#imagesById.set(id, this.#images);
  }

  /** Updates the buttons for the current text and model. */
  update() {
    this.#send.disabled = this.#box.value.trim() === "" && this.#images.length === 0;
    this.#form.querySelector(".add-image").hidden = !this.#models.supports("vision");
    // Browsers without `field-sizing` size the textarea by its lines.
    if (!CSS.supports("field-sizing", "content")) this.#box.rows = Math.min(8, this.#box.value.split("\n").length);
  }

  #submit(onSend) {
    const text = this.#box.value.trim();
    if ((!text && this.#images.length === 0) || !this.maySend()) return;
    const parts = [...this.#images.map(({ part }) => part), ...(text ? [{ kind: "text", text }] : [])];
    this.#box.value = "";
    setDraft(this.#conversationId, "");
    this.#images.length = 0;
    this.#attachments.replaceChildren();
    this.showNote("");
    this.update();
    onSend(parts);
  }

  #listenForFiles() {
    const input = this.#form.querySelector("input[type=file]");
    this.#form.querySelector(".add-image").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      this.#addFiles([...input.files]);
      input.value = "";
    });
    this.#box.addEventListener("paste", (event) => this.#onTransfer(event, event.clipboardData));
    addEventListener("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
    addEventListener("drop", (event) => this.#onTransfer(event, event.dataTransfer));
  }

  #onTransfer(event, transfer) {
    const files = [...(transfer?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    this.#addFiles(files);
  }

  /** Queues files, so that those of two pastes are processed in order. */
  #addFiles(files) {
    const images = this.#images;
    this.#processed = this.#processed.then(() => this.#processFiles(files, images));
  }

  /** Adds the images in `files` to `images`, those of the conversation that was open when the files were added. */
  async #processFiles(files, images) {
    await this.#models.loaded; // an image may be pasted before the models are known
    if (!this.#models.supports("vision")) {
      this.showNote("This model doesn't accept images. Choose one that does.");
      return;
    }
    const room = IMAGES_MAX - images.length;
    this.showNote(files.length > room ? `A prompt can have ${IMAGES_MAX} images. The others were not added.` : "");
    for (const file of files.slice(0, room)) {
      try {
        const part = await toImagePart(file, IMAGES_MAX);
        const image = { part };
        image.node = this.#createThumbnail(image, file.name);
        images.push(image);
        if (images === this.#images) this.#attachments.append(image.node);
      } catch (error) {
        this.showNote(`${file.name || "The file"}: ${error instanceof DOMException ? "it can't be read as an image." : error.message}`);
      }
    }
    this.update();
  }

  #createThumbnail(image, name) {
    const { media_type, data } = image.part;
    const remove = el("button", { type: "button", class: "icon-button", "aria-label": `Remove ${name}`, onclick: () => {
      this.#images.splice(this.#images.indexOf(image), 1);
      thumbnail.remove();
      this.update();
    } }, icon("close"));
    const thumbnail = el("span", { class: "thumbnail" }, el("img", { src: `data:${media_type};base64,${data}`, alt: name }), remove);
    return thumbnail;
  }

  /** Shows a note below the prompt box; an empty one hides it. */
  showNote(text) {
    this.#note.textContent = text;
    this.#note.hidden = text === "";
  }
}
