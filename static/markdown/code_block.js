/** A code block. It grows as one text node and is highlighted when it is complete, in steps that fit an animation frame. */

import { copyButton } from "../shared/copy_button.js";
import { el } from "../shared/dom.js";
import { schedulePaint } from "../shared/frame_scheduler.js";

/** Longer code is not highlighted, because parsing it would take longer than an animation frame. */
const HIGHLIGHTED_CHARS_MAX = 30_000;

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
  }).flatMap(([grammarName, names]) => names.map((name) => [name, grammarName])),
);

export class CodeBlock {
  language;
  content = document.createTextNode("");
  node;
  #code;

  /** @param {string} language as named by the fence; may be empty */
  constructor(language) {
    this.language = language;
    const name = language || "text";
    this.#code = el("code", {}, this.content);
    const pre = el("pre", { dir: "ltr", tabindex: "0", role: "group", "aria-label": `Code, ${name}` }, this.#code);
    const bar = el("div", { class: "code-bar" }, el("span", { class: "language", text: name }));
    bar.append(copyButton(() => this.#code.textContent, "Copy code"));
    this.node = el("div", { class: "code" }, bar, pre);
  }

  /** Highlights the code if its language is known and it isn't too long. */
  finish() {
    const grammarName = LANGUAGES.get(this.language.toLowerCase());
    if (grammarName && this.content.length <= HIGHLIGHTED_CHARS_MAX) void this.#highlight(grammarName);
  }

  async #highlight(grammarName) {
    const [{ default: highlight }, { default: grammar }] = await Promise.all([
      import("../vendor/highlight/core.js"),
      import(`../vendor/highlight/${grammarName}.js`),
    ]);
    if (!highlight.getLanguage(grammarName)) highlight.registerLanguage(grammarName, grammar);
    const task = new HighlightTask(this.content.data, (code) => highlight.highlight(code, { language: grammarName, ignoreIllegals: true }));
    task.onDone = (nodes) => this.#code.replaceChildren(nodes);
    schedulePaint(task);
  }
}

/**
 * Builds highlighted nodes from highlight.js's tree, detached until they are complete. Text stays text: no markup is
 * parsed.
 */
class HighlightTask {
  onDone;
  #code;
  #parse;
  #nodes = document.createDocumentFragment();
  #generator = null;

  constructor(code, parse) {
    this.#code = code;
    this.#parse = parse;
  }

  paint(deadline) {
    if (!this.#generator) {
      this.#generator = buildSpans(this.#parse(this.#code)._emitter.rootNode, this.#nodes);
    } else {
      do {
        if (!this.#generator.next().done) continue;
        this.onDone(this.#nodes);
        return;
      } while (performance.now() < deadline);
    }
    schedulePaint(this);
  }
}

function* buildSpans(tree, parent) {
  for (const child of tree.children) {
    if (typeof child === "string") {
      parent.append(child);
    } else {
      const name = child.scope?.split(".")[0];
      const node = el("span", { class: name && !name.startsWith("language:") ? `hljs-${name.replaceAll("_", "-")}` : null });
      yield* buildSpans(child, node);
      parent.append(node);
    }
    yield;
  }
}
