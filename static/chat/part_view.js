/** How one part of a message looks: text, reasoning, a tool call, an image, a citation, a refusal. */

import { grow } from "../shared/patch_dom.js";
import { authorization, credential } from "./credential.js";
import { el, icon, setText } from "../shared/dom.js";
import { MarkdownView } from "../markdown/markdown_view.js";

const ONE_LINE_CHARS = 72;
const OWN_PART = /^\/v1\/messages\/[\w-]+\/parts\/\d+$/;

/**
 * @param {object} part as in the protocol; its kind never changes
 * @returns {{node: HTMLElement, update: (part: object, open: boolean, until?: number) => boolean}} `open`: more of this part may
 *   follow; `until`: the end of the frame's time; `update` gives false where it has to be called again
 */
export function viewOf(part) {
  switch (part.kind) {
    case "reasoning":
      return reasoningView();
    case "tool_call":
      return toolCallView();
    case "citation":
      return citationView(part);
    case "image":
      return { node: imageOf(part), update: () => true };
    case "file":
      return { node: el("p", { class: "file", text: part.name ?? part.media_type ?? "A file" }), update: () => true };
    default: {
      const node = el("div", { class: part.kind === "refusal" ? "prose refusal" : "prose" });
      const markdown = new MarkdownView(node);
      return { node, update: ({ text }, open, until) => markdown.update(text ?? "", open, until) };
    }
  }
}

function reasoningView() {
  const words = document.createTextNode("");
  const summary = el("summary", {}, icon("thought"), el("span"));
  const text = el("p", { class: "reasoning-text", dir: "auto" }, words);
  const node = el("details", { class: "reasoning", "data-testid": "reasoning" }, summary, text);
  const update = (part, open) => {
    node.dataset.open = String(open);
    setText(summary.lastElementChild, open ? "Thinking" : part.redacted ? "Thought, withheld by the provider" : "Thought");
    grow(words, part.text ?? "");
    return true;
  };
  return { node, update };
}

function toolCallView() {
  const name = el("code");
  const words = document.createTextNode("");
  const pre = el("pre", { dir: "ltr", tabindex: "0", role: "group", "aria-label": "Arguments" }, el("code", {}, words));
  const head = el("p", { class: "tool-name" }, icon("tool"), el("span", { text: "Calls" }), name);
  const node = el("div", { class: "tool", "data-testid": "tool-call" }, head, pre);
  const update = (part, open) => {
    setText(name, part.name);
    grow(words, open ? part.arguments : indented(part.arguments));
    pre.hidden = words.data === "" || words.data === "{}";
    return true;
  };
  return { node, update };
}

/** A tool's answer, below its call. */
export function toolResultOf(part) {
  const said = el("pre", { dir: "auto", tabindex: "0", role: "group", "aria-label": "Result" }, part.output);
  const state = part.error ? "failed" : "answered";
  return el("div", { class: "tool-result", "data-state": state, "data-testid": "tool-result" }, icon(part.error ? "alert" : "reply"), said);
}

/** What came inside the message, or lies on the gateway itself, is shown; another host would learn who reads it. */
export function imageOf({ data, media_type, url, name }) {
  const alt = name ?? "Image";
  const own = OWN_PART.test(url ?? "");
  if ((data || own) && /^image\/(png|jpeg|gif|webp)$/.test(media_type)) {
    const picture = el("img", { class: "picture", alt });
    picture.addEventListener("error", () => picture.replaceWith(pictureAway(alt, null)));
    // Without the slash in front, a path prefix before the page stands before the picture too.
    if (own) void load(picture, url.slice(1), media_type);
    else picture.src = `data:${media_type};base64,${data}`;
    return picture;
  }
  return pictureAway(alt, /^https:\/\//i.test(url ?? "") ? url : null);
}

/** An address can't say who asks, so where one is signed in the bytes are asked for with the header that does. */
async function load(picture, address, media_type) {
  if (!credential()) {
    picture.src = address;
    return;
  }
  try {
    const answer = await fetch(address, { headers: authorization() });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const blob = URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type: media_type }));
    picture.addEventListener("load", () => URL.revokeObjectURL(blob), { once: true });
    picture.src = blob;
  } catch {
    picture.dispatchEvent(new Event("error"));
  }
}

function pictureAway(alt, url) {
  const shown = url ? el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", text: alt }) : el("span", { text: alt });
  return el("p", { class: "picture-away" }, icon("image"), shown);
}

function citationView({ url, title, text }) {
  const words = title ?? text ?? url ?? "";
  const link = /^https:\/\//i.test(url ?? "");
  const shown = link ? el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", text: words }) : words;
  return { node: el("p", { class: "citation", dir: "auto" }, shown), update: () => true };
}

function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, json.length > ONE_LINE_CHARS ? 2 : 0);
  } catch {
    return json;
  }
}
