/** The index of the documents page, and the search that hides what doesn't match. */

import { el } from "./dom.js";

/** Fills the index with the entries of each section. @param {HTMLElement} nav @param {HTMLElement} content */
export function createIndex(nav, content) {
  const input = Object.assign(el("input"), { type: "search", placeholder: "Search", ariaLabel: "Search operations, requests, events and fields" });
  const none = el("p", "", "Nothing matches.");
  none.hidden = true;
  const sections = [];
  for (const node of content.children) {
    if (node.localName === "h2") sections.push({ heading: node, entries: [] });
    else if (node.matches("details.entry")) sections.at(-1).entries.push(node);
  }
  const links = new Map();
  const groups = sections.map(({ heading, entries }) => {
    const list = el("ul", "", ...entries.map((entry) => {
      const item = el("li", "", link(entry.id, entry.querySelector(".path").textContent, entry.querySelector(".method")?.textContent));
      links.set(entry, item);
      return item;
    }));
    const title = link(heading.id, heading.textContent);
    if (entries.length === 0) return el("p", "", title);
    const group = el("details", "", el("summary", "", title), list);
    group.open = isOpenAtFirst(group);
    return group;
  });
  nav.replaceChildren(input, none, ...groups);
  const texts = new Map();
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const [entry, item] of links) {
      if (!texts.has(entry)) texts.set(entry, entry.textContent.toLowerCase());
      const matches = words.every((word) => texts.get(entry).includes(word));
      entry.hidden = item.hidden = !matches;
      found += matches;
    }
    for (const group of groups) {
      if (group.localName === "details") group.open = words.length > 0 ? group.querySelector("li:not([hidden])") !== null : isOpenAtFirst(group);
    }
    none.hidden = found > 0;
  });
}

function isOpenAtFirst(group) {
  return group.querySelector("a").hash === "#http";
}

function link(id, text, method) {
  const path = method ? text.slice(method.length) : text;
  const node = el("a", "", ...(method ? [el("span", "method", method), path] : [path]));
  node.href = `#${encodeURIComponent(id)}`;
  return node;
}
