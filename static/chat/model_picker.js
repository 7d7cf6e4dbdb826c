/** The model picker: what each model can do, what it lacks a key for, and several at once to compare. */

import { el, icon, setText } from "../shared/dom.js";

const FEATURES = new Map([
  ["vision", "sees"],
  ["thinking", "thinks"],
  ["tools", "tools"],
  ["files", "files"],
]);
const KEY = "turnwire.models";

export class ModelPicker extends EventTarget {
  #button;
  #menu;
  #models = new Map();
  #chosen = [];
  #listed = Promise.withResolvers();

  /** @param {HTMLElement} root holds a button and the menu that it opens */
  constructor(root) {
    super();
    this.#button = root.querySelector("button");
    this.#menu = root.querySelector(".menu");
    this.#menu.addEventListener("toggle", (event) => {
      this.#button.setAttribute("aria-expanded", String(event.newState === "open"));
      if (event.newState === "open") this.#menu.querySelector("[aria-checked=true]")?.focus();
    });
    this.#menu.addEventListener("keydown", (event) => this.#move(event));
  }

  /** The chosen models' ids; one at least, once the list has come. */
  get value() {
    return this.#chosen.map(({ id }) => id);
  }

  /** Whether every chosen model can do that. */
  can(feature) {
    return this.#chosen.length > 0 && this.#chosen.every(({ features }) => has(features, feature));
  }

  /** Resolves when it is known which models there are. */
  get listed() {
    return this.#listed.promise;
  }

  /** Shows a new list and keeps the choice where it still can be used. */
  show(models, preferred) {
    this.#models = new Map(models.map((model) => [model.id, model]));
    const wanted = this.#chosen.length > 0 ? this.value : remembered();
    this.#chosen = wanted.map((id) => this.#models.get(id)).filter((model) => model && !whyNot(model));
    if (this.#chosen.length === 0) this.#chosen = [this.#models.get(preferred) ?? models.find((model) => !whyNot(model))].filter(Boolean);
    this.#draw();
    this.#listed.resolve();
  }

  /** Takes one model alone, as a conversation may ask for. */
  take(id) {
    const model = this.#models.get(id);
    if (!model || whyNot(model)) return;
    this.#chosen = [model];
    this.#changed();
  }

  #draw() {
    const usable = [...this.#models.values()].filter((model) => !whyNot(model));
    const others = [...this.#models.values()].filter(whyNot);
    const groups = [el("p", { class: "menu-note", text: "Pick one, or add more to ask side by side." }), ...usable.map((model) => this.#row(model))];
    if (others.length > 0) groups.push(el("p", { class: "menu-title", text: "Needs a key on the gateway" }), ...others.map((model) => this.#row(model)));
    this.#menu.replaceChildren(...groups);
    const [first] = this.#chosen;
    const name = first ? (first.name ?? first.id) : "Default model";
    setText(this.#button.querySelector(".model-name"), this.#chosen.length > 1 ? `${name} + ${this.#chosen.length - 1}` : name);
    this.dispatchEvent(new Event("change"));
  }

  #row(model) {
    const reason = whyNot(model);
    const chosen = this.#chosen.includes(model);
    const facts = [...FEATURES].filter(([feature]) => has(model.features, feature)).map(([, word]) => word);
    if (model.context_window) facts.push(`${tokens(model.context_window)} context`);
    const pick = el("button", { type: "button", class: "model-pick", role: "menuitemradio", "aria-checked": String(chosen), disabled: Boolean(reason),
      "data-testid": "model-option", onclick: () => this.#pick(model) },
      el("span", { class: "model-title", text: model.name ?? model.id }),
      el("span", { class: "model-facts", text: reason || facts.join(" · ") }));
    const row = el("div", { class: "model-row", role: "none", "data-chosen": String(chosen) }, pick);
    if (!reason && this.#models.size > 1) {
      const label = chosen ? `Leave ${model.name ?? model.id} out` : `Ask ${model.name ?? model.id} as well`;
      row.append(el("button", { type: "button", class: "act", role: "menuitemcheckbox", "aria-checked": String(chosen), "aria-label": label, title: label,
        onclick: () => this.#toggle(model) }, icon(chosen ? "check" : "plus")));
    }
    return row;
  }

  #pick(model) {
    this.#chosen = [model];
    this.#menu.hidePopover();
    this.#button.focus();
    this.#changed();
  }

  #toggle(model) {
    const left = this.#chosen.filter((other) => other !== model);
    this.#chosen = left.length < this.#chosen.length ? (left.length > 0 ? left : [model]) : [...this.#chosen, model];
    this.#changed();
  }

  #changed() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.value));
    } catch {
      // Storage is off: the choice lasts as long as the page.
    }
    this.#draw();
  }

  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const rows = [...this.#menu.querySelectorAll(".model-pick:not(:disabled)")];
    const at = rows.findIndex((row) => row === document.activeElement || row.parentElement.contains(document.activeElement));
    rows[(at + step + rows.length) % rows.length]?.focus();
  }
}

function remembered() {
  try {
    const ids = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(ids) ? ids : [];
  } catch {
    return [];
  }
}

/** Features come as a list of names, or as a map of name to yes or no. */
function has(features, name) {
  return Array.isArray(features) ? features.includes(name) : Boolean(features && new Map(Object.entries(features)).get(name));
}

/** Why a model can't be used now; empty if it can. */
function whyNot(model) {
  if (model.available !== false) return "";
  return model.key ? `needs ${model.key}` : "not available";
}

function tokens(count) {
  return count >= 1_000_000 ? `${+(count / 1_000_000).toFixed(1)}M` : `${Math.round(count / 1000)}k`;
}
