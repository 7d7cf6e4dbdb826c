/** Views for the parts of a message: text, reasoning, tool calls and results, images, files, citations, refusals. */

import { el, icon, setText } from "../shared/dom.js";
import { setTextData } from "../shared/patch_dom.js";
import { createImage } from "./image_view.js";
import { LazyMarkdown } from "./markdown_loader.js";

const ONE_LINE_CHARS = 72;

/**
 * Creates the view of a part.
 * @param {object} part as in the protocol; its kind never changes
 * @returns {{node: HTMLElement, update: (part: object, open: boolean, deadline?: number) => boolean}} `open`: more of
 *   the part may follow; `deadline`: as in `MarkdownView.update`; `update` returns false if it must be called again
 */
export function createPartView(part) {
  switch (part.kind) {
    case "reasoning":
      return reasoningView();
    case "tool_call":
      return toolCallView();
    case "citation":
      return citationView(part);
    case "image":
      return { node: createImage({ ...part, name: part.name ?? "Image by the model" }), update: () => true };
    case "file":
      return { node: el("p", { class: "file", text: part.name ?? part.media_type ?? "File" }), update: () => true };
    default: {
      const node = el("div", { class: part.kind === "refusal" ? "prose refusal" : "prose" });
      const markdown = new LazyMarkdown(node);
      return { node, update: ({ text }, open, deadline) => markdown.update(text ?? "", open, deadline) };
    }
  }
}

function reasoningView() {
  const textNode = document.createTextNode("");
  const summary = el("summary", {}, icon("lightbulb"), el("span"));
  const text = el("p", { class: "reasoning-text", dir: "auto" }, textNode);
  const node = el("details", { class: "reasoning", "data-testid": "reasoning" }, summary, text);
  const update = (part, open) => {
    node.dataset.streaming = String(open);
    setText(summary.lastElementChild, open ? "Thinking" : part.redacted ? "Reasoning (withheld by the provider)" : "Reasoning");
    setTextData(textNode, part.text ?? "");
    return true;
  };
  return { node, update };
}

function toolCallView() {
  const name = el("code");
  const textNode = document.createTextNode("");
  const pre = el("pre", { dir: "ltr", tabindex: "0", role: "group", "aria-label": "Arguments" }, el("code", {}, textNode));
  const head = el("p", { class: "tool-name" }, icon("tool"), el("span", { text: "Tool call" }), name);
  const node = el("div", { class: "tool", "data-testid": "tool-call" }, head, pre);
  const update = (part, open) => {
    setText(name, part.name);
    setTextData(textNode, open ? part.arguments : indentJson(part.arguments));
    pre.hidden = textNode.data === "" || textNode.data === "{}";
    return true;
  };
  return { node, update };
}

/** Creates the view of a tool result. It is shown below its call. */
export function createToolResult(part) {
  const output = el("pre", { dir: "auto", tabindex: "0", role: "group", "aria-label": "Result" }, part.output);
  const state = part.error ? "failed" : "succeeded";
  return el("div", { class: "tool-result", "data-state": state, "data-testid": "tool-result" }, icon(part.error ? "alert" : "reply"), output);
}

function citationView({ url, title, text }) {
  const label = title ?? text ?? url ?? "";
  const isLink = /^https:\/\//i.test(url ?? "");
  const content = isLink ? el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", text: label }) : label;
  return { node: el("p", { class: "citation", dir: "auto" }, content), update: () => true };
}

function indentJson(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, json.length > ONE_LINE_CHARS ? 2 : 0);
  } catch {
    return json;
  }
}
