/** The model picker: the features of each model, the missing API keys, and a choice of several models to compare. */

import { CLIENTS, addressOf } from "../shared/base_urls.js";
import { el, icon, setText } from "../shared/dom.js";

const FEATURES = new Map([
  ["vision", "images"],
  ["thinking", "reasoning"],
  ["tools", "tools"],
  ["files", "files"],
]);
const KEY = "turnwire.models";

/** Dispatches `change`. */
export class ModelPicker extends EventTarget {
  #button;
  #menu;
  #models = new Map();
  #selected = [];
  /** Whether the models without a key are shown. */
  #isUnfolded = false;
  #loaded = Promise.withResolvers();

  /** @param {HTMLElement} root has a button and the menu that it opens */
  constructor(root) {
    super();
    this.#button = root.querySelector("button");
    this.#menu = root.querySelector(".menu");
    this.#menu.addEventListener("toggle", (event) => {
      this.#button.setAttribute("aria-expanded", String(event.newState === "open"));
      if (event.newState === "open") this.#menu.querySelector("[aria-checked=true]")?.focus();
    });
    this.#menu.addEventListener("keydown", (event) => this.#moveFocus(event));
  }

  /** The ids of the selected models. It may be empty until the list is loaded: then the gateway's default applies. */
  get value() {
    return this.#selected.length > 0 ? this.#selected.map(({ id }) => id) : loadSelection();
  }

  /** Returns whether every selected model has a feature. */
  supports(feature) {
    return this.#selected.length > 0 && this.#selected.every(({ features }) => hasFeature(features, feature));
  }

  /** Resolves when the list of models is loaded. */
  get loaded() {
    return this.#loaded.promise;
  }

  /** Sets the list of models. Keeps the selection as far as it is available. @param {string} preferred id */
  setModels(models, preferred) {
    this.#models = new Map(models.map((model) => [model.id, model]));
    this.#selected = this.value.map((id) => this.#models.get(id)).filter((model) => model && !unavailableReason(model));
    if (this.#selected.length === 0) this.#selected = [this.#models.get(preferred) ?? models.find((model) => !unavailableReason(model))].filter(Boolean);
    this.#render();
    this.#loaded.resolve();
  }

  #render() {
    const available = [...this.#models.values()].filter((model) => !unavailableReason(model));
    const unavailable = [...this.#models.values()].filter(unavailableReason);
    const items = [el("p", { class: "menu-note", text: "Choose a model, or add more to compare their answers." }), ...available.map((model) => this.#createRow(model))];
    if (unavailable.length > 0) items.push(...this.#createUnavailable(unavailable));
    items.push(el("p", { class: "menu-title", text: "The same models in other programs" }), createAddresses());
    this.#menu.replaceChildren(...items);
    const [first] = this.#selected;
    const name = first ? (first.name ?? first.id) : "Default model";
    setText(this.#button.querySelector(".model-name"), this.#selected.length > 1 ? `${name} + ${this.#selected.length - 1}` : name);
    this.dispatchEvent(new Event("change"));
  }

  /** Creates one line for all models without a key, and the list that it opens. */
  #createUnavailable(models) {
    const rows = el("div", { role: "group", "aria-label": "Not set up on this gateway", hidden: !this.#isUnfolded }, ...models.map((model) => this.#createRow(model)));
    const text = `${models.length} more ${models.length === 1 ? "needs" : "need"} an API key`;
    const fold = el("button", { type: "button", class: "menu-fold", role: "menuitem", "aria-expanded": String(this.#isUnfolded), "data-testid": "more-models" },
      el("span", { text }), icon("chevron-down"));
    const setUnfolded = (unfolded) => {
      this.#isUnfolded = unfolded;
      fold.setAttribute("aria-expanded", String(unfolded));
      rows.hidden = !unfolded;
    };
    fold.addEventListener("click", () => setUnfolded(!this.#isUnfolded));
    fold.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowRight" || key === "ArrowLeft") setUnfolded(key === "ArrowRight");
    });
    rows.addEventListener("keydown", ({ key }) => {
      if (key !== "ArrowLeft") return;
      setUnfolded(false);
      fold.focus();
    });
    return [fold, rows];
  }

  #createRow(model) {
    const reason = unavailableReason(model);
    const selected = this.#selected.includes(model);
    const facts = [...FEATURES].filter(([feature]) => hasFeature(model.features, feature)).map(([, label]) => label);
    if (model.legacy) facts.unshift("legacy");
    if (model.context_window) facts.push(`${formatTokens(model.context_window)} context`);
    const option = el("button", { type: "button", class: "model-option", role: "menuitemradio", "aria-checked": String(selected), "aria-disabled": reason ? "true" : null,
      "data-testid": "model-option", onclick: () => reason || this.#select(model) },
      el("span", { class: "model-title", text: model.name ?? model.id }),
      el("span", { class: "model-facts", text: reason || facts.join(" · ") }));
    const row = el("div", { class: "model-row", role: "none", "data-selected": String(selected) }, option);
    if (!reason && this.#models.size > 1) {
      const label = `${selected ? "Remove" : "Add"} ${model.name ?? model.id}`;
      row.append(el("button", { type: "button", class: "icon-button", role: "menuitemcheckbox", "aria-checked": String(selected), "aria-label": label, title: label,
        onclick: () => this.#toggle(model) }, icon(selected ? "check" : "plus")));
    }
    return row;
  }

  #select(model) {
    this.#selected = [model];
    this.#menu.hidePopover();
    this.#button.focus();
    this.#onChange();
  }

  #toggle(model) {
    const others = this.#selected.filter((other) => other !== model);
    this.#selected = others.length < this.#selected.length ? (others.length > 0 ? others : [model]) : [...this.#selected, model];
    this.#onChange();
  }

  #onChange() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.value));
    } catch {
      // Storage is disabled: the selection lasts until a reload.
    }
    this.#render();
  }

  #moveFocus(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    const items = [...this.#menu.querySelectorAll(".model-option, .menu-fold, .menu-addresses a")].filter((item) => item.checkVisibility());
    const index = items.findIndex((item) => item === document.activeElement || item.closest(".model-row")?.contains(document.activeElement));
    const next = step ? (index + step + items.length) % items.length : event.key === "Home" ? 0 : items.length - 1;
    items[next]?.focus();
  }
}

/** Creates the note about the first two addresses for other clients, with a link to all. */
function createAddresses() {
  const [openai, anthropic] = CLIENTS.map((entry) => el("code", { text: addressOf(entry) }));
  const link = el("a", { role: "menuitem", href: "docs#clients", text: "All addresses" });
  return el("p", { class: "menu-note menu-addresses" }, "OpenAI clients: ", openai, el("br"), "Anthropic clients: ", anthropic, el("br"), link);
}

function loadSelection() {
  try {
    const ids = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(ids) ? ids : [];
  } catch {
    return [];
  }
}

function hasFeature(features, name) {
  return Boolean(features?.includes(name));
}

/** Returns why a model isn't available; empty if it is. */
function unavailableReason(model) {
  if (model.available !== false) return "";
  return model.key ? `needs ${model.key}` : "not available";
}

function formatTokens(count) {
  return count >= 1_000_000 ? `${+(count / 1_000_000).toFixed(1)}M` : `${Math.round(count / 1000)}k`;
}
