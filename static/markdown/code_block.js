/** A code block. It grows as one text node and is highlighted when it is complete, by a worker. A diagram is drawn then. */

import { copyButton } from "../shared/copy_button.js";
import { el } from "../shared/dom.js";
import { getPref, setPref } from "../shared/local_prefs.js";
import { grammarOf, isDiagram } from "./languages.js";

/** Longer code is not highlighted. */
const HIGHLIGHTED_CHARS_MAX = 300_000;
const DIAGRAM_CHARS_MAX = 20_000;
const WRAP = "wrap code";

export class CodeBlock {
  language;
  content = document.createTextNode("");
  node;
  #code;
  #pre;
  #bar;

  /** @param {string} language as named by the fence; may be empty */
  constructor(language) {
    this.language = language;
    const name = language || "text";
    this.#code = el("code", {}, this.content);
    this.#pre = el("pre", { dir: "ltr", tabindex: "0", role: "group", "aria-label": `Code, ${name}` }, this.#code);
    this.#bar = el("div", { class: "code-bar" }, el("span", { class: "language", text: name }), createWrapButton(), copyButton(() => this.content.data, "Copy code"));
    this.node = el("div", { class: "code" }, this.#bar, this.#pre);
  }

  /** Highlights the code if its language is known and it isn't too long, or draws it as a diagram. */
  finish() {
    const { length } = this.content;
    if (isDiagram(this.language)) {
      if (length <= DIAGRAM_CHARS_MAX) void this.#draw();
      return;
    }
    const grammar = grammarOf(this.language);
    if (grammar && length > 0 && length <= HIGHLIGHTED_CHARS_MAX) void this.#highlight(grammar);
  }

  async #highlight(grammar) {
    try {
      const [{ highlight }, { HighlightedCode }] = await Promise.all([import("./highlighter.js"), import("./highlighted_code.js")]);
      const highlighted = new HighlightedCode(this.content.length);
      if (!(await highlight(this.content.data, grammar, (className, text) => highlighted.add(className, text)))) return;
      highlighted.finish();
      this.#code.replaceChildren(highlighted.nodes);
    } catch {
      // The highlighter couldn't be loaded: the code stays plain.
    }
  }

  async #draw() {
    try {
      const { drawDiagram } = await import("./diagram_view.js");
      drawDiagram(this.content.data, this.#bar, this.#pre);
    } catch {
      // The program for diagrams couldn't be loaded: the source stays.
    }
  }
}

/** Creates the button that wraps the long lines of all code, or lets them scroll again. The choice is remembered. */
function createWrapButton() {
  const setPressed = (button) => button.setAttribute("aria-pressed", String(getPref(WRAP) === true));
  const button = el("button", { type: "button", class: "copy code-wrap", text: "Wrap", title: "Wrap long lines", onclick: () => {
    setPref(WRAP, getPref(WRAP) === true ? null : true);
    applyWrap();
    document.querySelectorAll(".code-wrap").forEach(setPressed);
  } });
  setPressed(button);
  applyWrap();
  return button;
}

function applyWrap() {
  document.documentElement.toggleAttribute("data-wrap-code", getPref(WRAP) === true);
}
