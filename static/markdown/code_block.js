/** A block of code: it grows by one text node, and gets its colours when it is whole, in pieces that fit a frame. */

import { copyButton } from "../shared/copy_button.js";
import { el } from "../shared/dom.js";
import { paintSoon } from "../shared/frame_scheduler.js";

/** Longer code stays plain: to find its colours would take longer than a frame. */
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
    const painting = new Painting(this.content.data, (code) => highlight.highlight(code, { language: file, ignoreIllegals: true }));
    painting.done = (nodes) => this.#code.replaceChildren(nodes);
    paintSoon(painting);
  }
}

/** Makes coloured code of highlight.js's tree, away from the page until it is whole. Words stay words: nothing is markup. */
class Painting {
  done;
  #code;
  #find;
  #nodes = document.createDocumentFragment();
  #steps = null;

  constructor(code, find) {
    this.#code = code;
    this.#find = find;
  }

  paint(until) {
    if (!this.#steps) {
      this.#steps = spans(this.#find(this.#code)._emitter.rootNode, this.#nodes);
    } else {
      do {
        if (!this.#steps.next().done) continue;
        this.done(this.#nodes);
        return;
      } while (performance.now() < until);
    }
    paintSoon(this);
  }
}

function* spans(tree, parent) {
  for (const child of tree.children) {
    if (typeof child === "string") {
      parent.append(child);
    } else {
      const name = child.scope?.split(".")[0];
      const node = el("span", { class: name && !name.startsWith("language:") ? `hljs-${name.replaceAll("_", "-")}` : null });
      yield* spans(child, node);
      parent.append(node);
    }
    yield;
  }
}
