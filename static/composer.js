/** The prompt box: grows with its text, Enter sends, Shift+Enter breaks the line. */

export class Composer {
  #form;
  #box;
  #send;
  #onSend;

  /** @param {HTMLFormElement} form @param {(prompt: string) => void} onSend */
  constructor(form, onSend) {
    this.#form = form;
    this.#onSend = onSend;
    this.#box = form.querySelector("textarea");
    this.#send = form.querySelector(".send");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    this.#box.addEventListener("input", () => this.#fit());
    this.#fit();
  }

  focus() {
    this.#box.focus({ preventScroll: true });
  }

  #key(event) {
    // While an input method composes, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #submit() {
    const prompt = this.#box.value.trim();
    if (!prompt) return;
    this.#box.value = "";
    this.#fit();
    this.#onSend(prompt);
  }

  #fit() {
    this.#send.disabled = this.#box.value.trim() === "";
    this.#box.style.setProperty("height", "auto");
    this.#box.style.setProperty("height", `${this.#box.scrollHeight}px`);
  }
}
