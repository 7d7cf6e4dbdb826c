/** A block of code: it grows by one text node, and gets its colours once, when it is whole. */

import { copyButton } from "./copy.js";
import { el } from "./dom.js";
import { codeNodes } from "./markdown.js";

/** Longer code stays plain: colouring it would take longer than a frame. */
const COLOURED_CHARS_MAX = 30_000;

const LANGUAGES = new Map(
  Object.entries({
    bash: ["bash", "sh", "shell", "zsh", "console"],
    cpp: ["cpp", "c", "c++", "h", "hpp"],
    css: ["css"],
    diff: ["diff", "patch"],
    go: ["go", "golang"],
    java: ["java"],
    javascript: ["javascript", "js", "jsx", "mjs"],
    json: ["json", "jsonl", "json5"],
    python: ["python", "py"],
    rust: ["rust", "rs"],
    sql: ["sql"],
    typescript: ["typescript", "ts", "tsx"],
    xml: ["xml", "html", "svg"],
    yaml: ["yaml", "yml"],
  }).flatMap(([file, names]) => names.map((name) => [name, file])),
);

export class CodeBlock {
  language;
  content = document.createTextNode("");
  node;
  #code;

  /** @param {string} language as the fence names it; may be empty */
  constructor(language) {
    this.language = language;
    const name = language || "text";
    this.#code = el("code", {}, this.content);
    const pre = el("pre", { dir: "ltr", tabindex: "0", role: "group", "aria-label": `Code, ${name}` }, this.#code);
    const bar = el("div", { class: "code-bar" }, el("span", { class: "language", text: name }));
    bar.append(copyButton(() => this.#code.textContent, "Copy code"));
    this.node = el("div", { class: "code" }, bar, pre);
  }

  /** Colours the code, where its language is known. */
  finish() {
    const file = LANGUAGES.get(this.language.toLowerCase());
    if (file && this.content.length <= COLOURED_CHARS_MAX) void this.#colour(file);
  }

  async #colour(file) {
    const [{ default: highlight }, { default: grammar }] = await Promise.all([
      import("../vendor/highlight/core.js"),
      import(`../vendor/highlight/${file}.js`),
    ]);
    if (!highlight.getLanguage(file)) highlight.registerLanguage(file, grammar);
    const { value } = highlight.highlight(this.content.data, { language: file, ignoreIllegals: true });
    this.#code.replaceChildren(codeNodes(value));
  }
}
