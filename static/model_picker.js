/** The model picker: what can be used first, what lacks a key after it, disabled and with the reason. */

import { el } from "./dom.js";

export class ModelPicker {
  #select;
  #models = new Map();

  /** @param {HTMLSelectElement} select @param {() => void} onChange */
  constructor(select, onChange) {
    this.#select = select;
    select.addEventListener("change", onChange);
  }

  get value() {
    return this.#select.value || undefined;
  }

  /** The chosen model as `models.list` describes it. */
  get model() {
    return this.#models.get(this.#select.value);
  }

  /** Shows a new list and keeps the choice where it still can be used. */
  show(models, preferred) {
    const chosen = this.#select.value || preferred;
    this.#models = new Map(models.map((model) => [model.id, model]));
    const usable = models.filter((model) => !whyNot(model));
    const unusable = models.filter(whyNot);
    this.#select.replaceChildren(...usable.map(option));
    if (unusable.length > 0) this.#select.append(el("optgroup", { label: "Not available" }, ...unusable.map(option)));
    const choice = [chosen, preferred, usable[0]?.id].find((id) => usable.some((model) => model.id === id));
    if (choice) this.#select.value = choice;
  }
}

/** Why a model can't be used now; empty if it can. */
function whyNot(model) {
  if (model.available !== false) return "";
  return model.key ? `needs ${model.key}` : "not available";
}

function option(model) {
  const reason = whyNot(model);
  const name = model.name ?? model.id;
  return el("option", { value: model.id, disabled: Boolean(reason), text: reason ? `${name} · ${reason}` : name });
}
