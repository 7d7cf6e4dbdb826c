/** The demo model's options: speed, length, thinking, failing on cue. Shown only while that model is chosen. */

export class DemoOptions {
  #fields;
  #toggle;

  /** @param {HTMLFieldSetElement} fields @param {HTMLButtonElement} toggle folds the fields out and away */
  constructor(fields, toggle) {
    this.#fields = fields;
    this.#toggle = toggle;
    toggle.addEventListener("click", () => this.#fold(!fields.hidden));
    for (const slider of fields.querySelectorAll("input[type=range]")) {
      const show = () => (slider.nextElementSibling.value = words(slider));
      slider.addEventListener("input", show);
      show();
    }
  }

  /** Whether there is anything to choose: only the demo model has these options. */
  show(shown) {
    this.#toggle.hidden = !shown;
    if (!shown) this.#fold(true);
  }

  #fold(folded) {
    this.#fields.hidden = folded;
    this.#toggle.setAttribute("aria-expanded", String(!folded));
  }

  /** `params.demo` for the next turn; undefined where the demo model isn't chosen. */
  get value() {
    if (this.#toggle.hidden) return undefined;
    const field = (name) => this.#fields.querySelector(`[name=${name}]`);
    const options = { rate: Number(field("rate").value) };
    const tokens = Number(field("tokens").value);
    if (tokens > 0) options.tokens = tokens;
    if (field("thinking").checked) options.thinking = true;
    if (field("fail").value) options.fail = field("fail").value;
    return options;
  }
}

function words({ name, value }) {
  if (name === "rate") return `${value} tok/s`;
  return value === "0" ? "default" : `${value} tokens`;
}
