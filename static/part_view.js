/** How one part of a message looks: text, reasoning, a tool call, a citation, a refusal. */

import { el, icon, setText } from "./dom.js";
import { MarkdownView } from "./markdown_view.js";

/**
 * @param {object} part as in the protocol; its kind never changes
 * @returns {{node: HTMLElement, update: (part: object, open: boolean) => void}} `open`: more of this part may follow
 */
export function viewOf(part) {
  if (part.kind === "reasoning") return reasoningView();
  if (part.kind === "tool_call") return toolCallView();
  if (part.kind === "citation") return citationView(part);
  const node = el("div", { class: part.kind === "refusal" ? "prose refusal" : "prose" });
  const markdown = new MarkdownView(node);
  return { node, update: ({ text }, open) => markdown.update(text ?? "", open) };
}

function reasoningView() {
  const summary = el("summary", { text: "Thinking" });
  const text = el("p", { class: "reasoning-text", dir: "auto" });
  const node = el("details", { class: "reasoning", "data-testid": "reasoning" }, summary, text);
  const update = (part, open) => {
    setText(summary, open ? "Thinking…" : part.redacted ? "Thought (withheld by the provider)" : "Thought");
    setText(text, part.text);
  };
  return { node, update };
}

function toolCallView() {
  const name = el("code");
  const args = el("code");
  const pre = el("pre", { dir: "ltr", tabindex: "0", role: "group", "aria-label": "Arguments" }, args);
  const node = el("div", { class: "tool", "data-testid": "tool-call" }, el("p", { class: "tool-name" }, icon("tool"), "Asks for ", name), pre);
  const update = (part, open) => {
    setText(name, part.name);
    setText(args, open ? part.arguments : indented(part.arguments));
  };
  return { node, update };
}

function citationView({ url, title, text }) {
  const node = el("p", { class: "citation", dir: "auto", text: title ?? text ?? "" });
  if (url) node.append(el("span", { class: "citation-url", text: ` ${url}` }));
  return { node, update: () => {} };
}

function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
