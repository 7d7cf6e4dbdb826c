/**
 * The settings form: parameters, demo tools, and the demo model's options. They are stored in `localStorage`. The system
 * prompt is shown in the form but belongs to the conversation: see system_prompt.js.
 */

const KEY = "turnwire.settings";

/** Forgets the stored settings, for another user. */
export function forgetSettings() {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // Storage is disabled: nothing was stored.
  }
}

export class Settings {
  #form;

  /** @param {HTMLFormElement} form its fields have the names of the parameters */
  constructor(form) {
    this.#form = form;
    this.#restore();
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => this.#store());
    form.addEventListener("reset", () => setTimeout(() => this.#store()));
    for (const slider of form.querySelectorAll("input[type=range]")) {
      const showValue = () => (slider.parentElement.querySelector("output").value = sliderText(slider));
      slider.addEventListener("input", showValue);
      form.addEventListener("reset", () => setTimeout(showValue));
      showValue();
    }
  }

  get tools() {
    return this.#field("tools").checked;
  }

  /** Whether the user is asked before a tool runs. */
  get asksTools() {
    return this.#field("ask_tools").checked;
  }

  /** Returns the `params` of a turn. @param {string} model */
  paramsFor(model) {
    const params = {};
    for (const name of ["temperature", "max_tokens", "seed"]) {
      const text = this.#field(name).value.trim();
      if (text !== "" && Number.isFinite(Number(text))) params[name] = Number(text);
    }
    if (this.#field("reasoning").value) params.reasoning = this.#field("reasoning").value;
    if (model === "demo") params.demo = this.demo;
    return params;
  }

  /** The options of the demo model: `params.demo`. */
  get demo() {
    const demo = { rate: Number(this.#field("rate").value) };
    const tokens = Number(this.#field("tokens").value);
    if (tokens > 0) demo.tokens = tokens;
    if (this.#field("thinking").checked) demo.thinking = true;
    if (this.#field("fail").value) demo.fail = this.#field("fail").value;
    return demo;
  }

  #field(name) {
    return this.#form.elements.namedItem(name);
  }

  #store() {
    const values = {};
    for (const field of this.#form.elements) {
      if (field.name) values[field.name] = field.type === "checkbox" ? field.checked : field.value;
    }
    try {
      localStorage.setItem(KEY, JSON.stringify(values));
    } catch {
      // Storage is disabled: the settings last until a reload.
    }
  }

  #restore() {
    let stored = {};
    try {
      stored = JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
      return;
    }
    for (const [name, value] of Object.entries(stored)) {
      const field = this.#field(name);
      if (field?.type === "checkbox") field.checked = value === true;
      else if (field) field.value = String(value);
    }
  }
}

function sliderText({ name, value }) {
  if (name === "rate") return `${value} tokens/s`;
  return value === "0" ? "auto" : `${value} tokens`;
}
