/** Where prompts are written: Enter sends, Shift+Enter makes a new line; pictures come by paste, drop or choice. */

import { draftOf, keepDraft } from "./drafts.js";
import { fittedPicture } from "./image_resize.js";
import { el, icon, isComposing } from "../shared/dom.js";

const PICTURES_MAX = 4;

export class Composer {
  #form;
  #box;
  #send;
  #tray;
  #note;
  /** The conversation that is written to; empty: a new one; null: none yet. */
  #place = null;
  /** What else belongs to the prompt, by conversation. @type {Map<string, {part: object, node: HTMLElement}[]>} */
  #trays = new Map();
  #pictures = [];
  /** Resolves when every picture that was given has been read. */
  #read = Promise.resolve();
  #models;

  /**
   * @param {HTMLFormElement} form
   * @param {(parts: object[]) => void} onSend
   * @param {import("./model_picker.js").ModelPicker} models says whether the chosen one takes pictures
   */
  constructor(form, onSend, models) {
    this.#form = form;
    this.#box = form.querySelector("textarea");
    this.#send = form.querySelector(".send");
    this.#tray = form.querySelector(".tray");
    this.#note = form.querySelector(".composer-note");
    this.#models = models;
    this.#box.addEventListener("input", () => {
      keepDraft(this.#place, this.#box.value);
      this.update();
    });
    this.#box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#read.then(() => this.#submit(onSend)); // who pastes and sends at once means the picture too
    });
    this.#takeFiles();
    this.update();
  }

  focus() {
    this.#box.focus();
  }

  /** Goes on with what was being written in this conversation. @param {string | null} id null: a new one */
  open(id) {
    const place = id ?? "";
    if (place === this.#place) return;
    if (this.#pictures.length > 0) this.#trays.set(this.#place, this.#pictures);
    else this.#trays.delete(this.#place);
    this.#place = place;
    this.#pictures = this.#trays.get(place) ?? [];
    this.#box.value = draftOf(place);
    this.#tray.replaceChildren(...this.#pictures.map(({ node }) => node));
    this.#say("");
    this.update();
  }

  /** The new conversation that is written to has got its id. */
  named(id) {
    keepDraft(this.#place, "");
    this.#place = id;
    keepDraft(id, this.#box.value);
  }

  /** Fits what can be done to the text and the model. */
  update() {
    this.#send.disabled = this.#box.value.trim() === "" && this.#pictures.length === 0;
    this.#form.querySelector(".add-picture").hidden = !this.#models.can("vision");
    // Where CSS can't size a textarea by its content, its lines do.
    if (!CSS.supports("field-sizing", "content")) this.#box.rows = Math.min(8, this.#box.value.split("\n").length);
  }

  #submit(onSend) {
    const text = this.#box.value.trim();
    if (!text && this.#pictures.length === 0) return;
    const parts = [...this.#pictures.map(({ part }) => part), ...(text ? [{ kind: "text", text }] : [])];
    this.#box.value = "";
    keepDraft(this.#place, "");
    this.#pictures = [];
    this.#tray.replaceChildren();
    this.#say("");
    this.update();
    onSend(parts);
  }

  #takeFiles() {
    const chooser = this.#form.querySelector("input[type=file]");
    this.#form.querySelector(".add-picture").addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => {
      this.#add([...chooser.files]);
      chooser.value = "";
    });
    this.#box.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    addEventListener("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
    addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
  }

  #take(event, transfer) {
    const files = [...(transfer?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    this.#add(files);
  }

  /** Takes files one after the other, also those of two pastes. */
  #add(files) {
    this.#read = this.#read.then(() => this.#addAll(files));
  }

  async #addAll(files) {
    await this.#models.listed; // a picture may be pasted before that
    if (!this.#models.can("vision")) {
      this.#say("This model takes no pictures. Pick one that does.");
      return;
    }
    const room = PICTURES_MAX - this.#pictures.length;
    this.#say(files.length > room ? `A prompt takes ${PICTURES_MAX} pictures. The others were left out.` : "");
    for (const file of files.slice(0, room)) {
      try {
        const part = await fittedPicture(file, PICTURES_MAX);
        const picture = { part };
        picture.node = this.#thumbnail(picture, file.name);
        this.#pictures.push(picture);
        this.#tray.append(picture.node);
      } catch {
        this.#say(`${file.name || "That"} isn't a picture that can be read.`);
      }
    }
    this.update();
  }

  #thumbnail(picture, name) {
    const { media_type, data } = picture.part;
    const remove = el("button", { type: "button", class: "act", "aria-label": `Remove ${name}`, onclick: () => {
      this.#pictures = this.#pictures.filter((other) => other !== picture);
      thumbnail.remove();
      this.update();
    } }, icon("close"));
    const thumbnail = el("span", { class: "thumbnail" }, el("img", { src: `data:${media_type};base64,${data}`, alt: name }), remove);
    return thumbnail;
  }

  #say(text) {
    this.#note.textContent = text;
    this.#note.hidden = text === "";
  }
}
