/** Copying to the clipboard, with a word on whether it worked. */

import { el, icon } from "./dom.js";

const SAID_FOR_MS = 1_600;

/**
 * @param {() => string} text what to copy, asked when it is clicked
 * @param {string} label for who can't see the button
 * @param {boolean} [words] whether the button says "Copy" beside its icon
 */
export function copyButton(text, label, words = true) {
  const said = el("span", { class: words ? "copy-word" : "unseen", text: words ? "Copy" : "" });
  const button = el("button", { type: "button", class: words ? "copy" : "act", "aria-label": label, title: label }, icon("copy"), said);
  button.addEventListener("click", async () => {
    const worked = await copy(text());
    button.dataset.said = worked ? "yes" : "no";
    said.textContent = worked ? "Copied" : "Not allowed";
    setTimeout(() => {
      delete button.dataset.said;
      said.textContent = words ? "Copy" : "";
    }, SAID_FOR_MS);
  });
  return button;
}

/** Over plain http from another machine there is no clipboard API; selecting and copying still works there. */
async function copy(text) {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    const area = el("textarea", { class: "unseen", readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    const worked = document.execCommand("copy");
    area.remove();
    return worked;
  } catch {
    return false;
  }
}
