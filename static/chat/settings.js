/** The settings of what is asked: system prompt, tuning, demo tools, and the demo model's options. Kept by the browser. */

const KEY = "turnwire.settings";

export class Settings extends EventTarget {
  #form;

  /** @param {HTMLFormElement} form its fields are named as the parameters are */
  constructor(form) {
    super();
    this.#form = form;
    this.#restore();
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => this.#changed());
    form.addEventListener("reset", () => setTimeout(() => this.#changed()));
    for (const slider of form.querySelectorAll("input[type=range]")) {
      const show = () => (slider.parentElement.querySelector("output").value = words(slider));
      slider.addEventListener("input", show);
      form.addEventListener("reset", () => setTimeout(show));
      show();
    }
  }

  get system() {
    return this.#field("system").value.trim();
  }

  set system(text) {
    this.#field("system").value = text ?? "";
  }

  get tools() {
    return this.#field("tools").checked;
  }

  /** `params` for a turn of this model. */
  paramsFor(model) {
    const params = {};
    const number = (name) => this.#field(name).value.trim() !== "" && Number(this.#field(name).value);
    for (const name of ["temperature", "max_tokens", "seed"]) {
      const value = number(name);
      if (value !== false && Number.isFinite(value)) params[name] = value;
    }
    if (this.#field("reasoning").value) params.reasoning = this.#field("reasoning").value;
    if (model === "demo") params.demo = this.demo;
    return params;
  }

  /** `params.demo`. */
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

  #changed() {
    const values = {};
    for (const field of this.#form.elements) {
      if (field.name && field.name !== "system") values[field.name] = field.type === "checkbox" ? field.checked : field.value;
    }
    try {
      localStorage.setItem(KEY, JSON.stringify(values));
    } catch {
      // Storage is off: the settings last as long as the page.
    }
    this.dispatchEvent(new Event("change"));
  }

  #restore() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
      return;
    }
    for (const [name, value] of Object.entries(kept)) {
      const field = this.#field(name);
      if (field?.type === "checkbox") field.checked = value === true;
      else if (field) field.value = String(value);
    }
  }
}

function words({ name, value }) {
  if (name === "rate") return `${value} tokens/s`;
  return value === "0" ? "as it comes" : `${value} tokens`;
}
