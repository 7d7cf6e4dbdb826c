/** Views for the parts of a message: text, reasoning, tool calls and results, images, files, citations, refusals. */

import { authorizationHeader, getCredential } from "../shared/credential.js";
import { el, icon, setText } from "../shared/dom.js";
import { setTextData } from "../shared/patch_dom.js";
import { LazyMarkdown } from "./markdown_loader.js";

const ONE_LINE_CHARS = 72;
/** The path of an image that the gateway stores. */
const STORED_PART = /^\/v1\/messages\/[\w-]+\/parts\/\d+(\?turn=[\w.-]+)?$/;

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

/**
 * Creates the view of an image part. Only inline images and those that the gateway stores are loaded: another host
 * would learn who reads the message.
 */
export function createImage({ data, media_type, url, name }) {
  const alt = name ?? "Image";
  const isStored = STORED_PART.test(url ?? "");
  if ((data || isStored) && /^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(media_type)) {
    const image = el("img", { class: "image", alt });
    image.addEventListener("error", () => image.replaceWith(createImageLink(alt, null)));
    // A relative URL, without the leading slash, works under a path prefix.
    if (isStored) void loadImage(image, url.slice(1), media_type);
    else image.src = `data:${media_type};base64,${data}`;
    return image;
  }
  return createImageLink(alt, /^https:\/\//i.test(url ?? "") ? url : null);
}

/** Loads a stored image. An `img` element can't send a credential, so a signed-in user's image is fetched with a header. */
async function loadImage(image, url, media_type) {
  if (!getCredential()) {
    image.src = url;
    return;
  }
  try {
    const response = await fetch(url, { headers: authorizationHeader() });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const blob = URL.createObjectURL(new Blob([await response.arrayBuffer()], { type: media_type }));
    image.addEventListener("load", () => URL.revokeObjectURL(blob), { once: true });
    image.src = blob;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

/** Creates a placeholder for an image that isn't loaded: a link, or its name if `url` is null. */
function createImageLink(alt, url) {
  const content = url ? el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", text: alt }) : el("span", { text: alt });
  return el("p", { class: "image-link" }, icon("image"), content);
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
