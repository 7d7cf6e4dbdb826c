/** A button that copies text to the clipboard and shows whether it worked. */

import { el, icon } from "./dom.js";

const FEEDBACK_MS = 1_600;

/**
 * Creates a copy button.
 * @param {() => string} getText returns the text to copy, when the button is clicked
 * @param {string} label the accessible name and tooltip
 * @param {boolean} [showLabel] whether the button shows "Copy" next to its icon
 */
export function copyButton(getText, label, showLabel = true) {
  const text = el("span", { class: showLabel ? "copy-label" : "visually-hidden", text: showLabel ? "Copy" : "" });
  const button = el("button", { type: "button", class: showLabel ? "copy" : "icon-button", "aria-label": label, title: label }, icon("copy"), text);
  button.addEventListener("click", async () => {
    const copied = await copyText(getText());
    button.dataset.copied = String(copied);
    text.textContent = copied ? "Copied" : "Copy failed";
    setTimeout(() => {
      delete button.dataset.copied;
      text.textContent = showLabel ? "Copy" : "";
    }, FEEDBACK_MS);
  });
  return button;
}

/** Copies text and returns whether it worked. Over plain http there is no clipboard API, but `execCommand` works. */
async function copyText(text) {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    const area = el("textarea", { class: "visually-hidden", readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  } catch {
    return false;
  }
}
