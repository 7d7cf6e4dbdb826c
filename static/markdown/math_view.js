/** Renders formulas with KaTeX, which is loaded with the first one. A formula that can't be rendered stays as its source. */

import { el } from "../shared/dom.js";
import { schedulePaint } from "../shared/frame_scheduler.js";
import { formulaTree } from "./formula.js";
import { formulaOf } from "./math_text.js";

let loading = null;

/** Renders formulas in steps that fit an animation frame. @param {HTMLElement[]} nodes as made by math_text.js */
export async function renderFormulas(nodes) {
  try {
    await (loading ??= load());
  } catch {
    loading = null; // the next formula tries again
    return;
  }
  schedulePaint(new MathTask(nodes));
}

/** Loads the script, which makes itself a global, and the style, without which formulas are shown twice. */
async function load() {
  const link = el("link", { rel: "stylesheet", href: new URL("../vendor/katex/katex.css", import.meta.url).href });
  const styled = new Promise((resolve, reject) => {
    link.addEventListener("load", resolve);
    link.addEventListener("error", reject);
  });
  document.head.append(link);
  await Promise.all([styled, import("../vendor/katex/katex.js")]);
}

class MathTask {
  #nodes;

  constructor(nodes) {
    this.#nodes = nodes;
  }

  paint(deadline) {
    while (this.#nodes.length > 0) {
      render(this.#nodes.shift());
      if (performance.now() > deadline) break;
    }
    if (this.#nodes.length > 0) schedulePaint(this);
  }
}

function render(code) {
  const source = code.textContent;
  const isDisplay = code.dataset.math === "display";
  const tree = formulaTree(globalThis.katex, formulaOf(source), isDisplay);
  if (!tree) return;
  const box = el("span", { class: "math", "data-source": source }, tree.toNode());
  // A long formula scrolls sideways, also by keyboard.
  if (isDisplay) for (const [name, value] of Object.entries({ "data-display": "", tabindex: "0", role: "group", "aria-label": "Formula" })) box.setAttribute(name, value);
  code.replaceWith(box);
}
