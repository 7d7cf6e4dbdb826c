/**
 * What happens to a prompt that is sent while an answer streams: it waits for the answer, starts beside it, or stops it. The
 * first such prompt asks; the choice is remembered and can be changed beside Send. Loaded when the first answer streams.
 */

import { el, icon, setText } from "../shared/dom.js";
import { getPref, setPref } from "../shared/local_prefs.js";

const ON_BUSY = "on-busy";
const CHOICES = [
  { value: "queue", label: "After it", note: "It waits until the answer is complete." },
  { value: "parallel", label: "Side by side", note: "It starts now, next to the answer." },
  { value: "interrupt", label: "Stop and ask", note: "It stops the answer and starts from there." },
];

export class BusyChoice {
  #box;
  #chip;
  #label = el("span");
  #menu;
  #items;
  /** Sends the prompt that asked. @type {(() => void) | null} */
  #send = null;

  /**
   * @param {HTMLElement} bar the buttons below the prompt box
   * @param {HTMLTextAreaElement} box the prompt box
   */
  constructor(bar, box) {
    this.#box = box;
    this.#items = CHOICES.map(({ value, label, note }, index) =>
      el("button", { type: "button", class: "model-option", role: "menuitemradio", "data-value": value, "data-testid": `busy-${value}`, onclick: () => this.#choose(value) },
        el("span", { class: "model-title" }, el("kbd", { "aria-hidden": "true", text: String(index + 1) }), ` ${label}`), el("span", { class: "model-facts", text: note })));
    const note = el("p", { class: "menu-note", id: "busy-note", text: "An answer is still streaming. Where does this prompt go? You can change the choice beside Send." });
    this.#menu = el("div", { class: "menu busy-menu", id: "busy-menu", popover: "auto" }, note,
      el("div", { role: "menu", "aria-label": "A prompt while an answer streams", "aria-describedby": "busy-note" }, ...this.#items));
    this.#menu.addEventListener("keydown", (event) => this.#onKey(event));
    this.#menu.addEventListener("toggle", ({ newState }) => {
      this.#chip.setAttribute("aria-expanded", String(newState === "open"));
      if (newState === "open") this.#items.find(({ dataset }) => dataset.value === currentChoice())?.focus();
      else this.#send = null;
    });
    this.#chip = el("button", { type: "button", class: "busy-chip", popovertarget: "busy-menu", "aria-haspopup": "menu", "aria-expanded": "false",
      "data-testid": "busy-chip", title: "What a prompt does while an answer streams" }, el("span", { class: "visually-hidden", text: "The next prompt: " }), this.#label, icon("chevron-down"));
    bar.querySelector(".stop-all").before(this.#chip, this.#menu);
    this.show(false);
  }

  /** Shows or hides the choice beside Send. */
  show(isBusy) {
    this.#chip.hidden = !isBusy;
    const choice = currentChoice();
    setText(this.#label, CHOICES.find(({ value }) => value === choice).label);
    for (const item of this.#items) item.setAttribute("aria-checked", String(item.dataset.value === choice));
    if (!isBusy && this.#menu.matches(":popover-open")) this.#sendNow();
  }

  /** Asks what the prompt in the box is to do. @param {() => void} send is called once that is chosen */
  ask(send) {
    this.#menu.showPopover();
    this.#send = send;
  }

  #choose(value) {
    setPref(ON_BUSY, value);
    this.show(!this.#chip.hidden);
    this.#sendNow();
  }

  /** Closes the menu and sends the prompt that asked: a choice was made, or the answer has ended, so none is needed. */
  #sendNow() {
    const send = this.#send;
    this.#menu.hidePopover();
    this.#box.focus();
    send?.();
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const index = this.#items.indexOf(document.activeElement);
    const item = step ? this.#items[(index + step + this.#items.length) % this.#items.length] : this.#items[Number(event.key) - 1];
    if (!item) return;
    event.preventDefault();
    if (step) item.focus();
    else this.#choose(item.dataset.value);
  }
}

function currentChoice() {
  return getPref(ON_BUSY) ?? "queue";
}
