/** The frames section: filters, pause, copy, the list, and the details of the selected frame. */

import { copyButton } from "../shared/copy_button.js";
import { el, icon, setText } from "../shared/dom.js";
import { formatBytes, shortId } from "../shared/format.js";
import { WireList } from "./wire_list.js";
import { toJsonLine, WireLog } from "./wire_log.js";

const SEARCH_AFTER_MS = 150;

export class WireFrames {
  node;
  log = new WireLog();
  #list;
  #detail = el("section", { class: "wire-detail", "aria-label": "Frame", "data-testid": "wire-detail", hidden: true });
  #types = createSelect("Type", "wire-type");
  #turns = createSelect("Turn", "wire-turn");
  #count = el("span", { class: "wire-count", "data-testid": "wire-count" });
  #pauseButton;
  #empty = el("p", { class: "wire-empty" });

  constructor() {
    this.#list = new WireList(this.log, (record) => this.#showDetail(record));
    const directions = createSelect("Direction", "wire-direction", [["", "In and out"], ["in", "↓ In"], ["out", "↑ Out"]]);
    const text = el("input", { type: "search", placeholder: "Search frames", "aria-label": "Search frames", autocomplete: "off", "data-testid": "wire-text" });
    this.#pauseButton = el("button", { type: "button", class: "button-secondary wire-pause", "aria-pressed": "false", "data-testid": "wire-pause", text: "Pause", onclick: () => this.#togglePause() });
    const clear = el("button", { type: "button", class: "icon-button", "aria-label": "Clear", title: "Clear", onclick: () => this.#clear() }, icon("trash"));
    const all = copyButton(() => this.log.toJsonLines(), "Copy shown frames as JSON lines", false);
    all.dataset.testid = "wire-copy-all";
    directions.addEventListener("change", () => this.#filter({ direction: directions.value }));
    this.#types.addEventListener("change", () => this.#filter({ type: this.#types.value }));
    this.#turns.addEventListener("change", () => this.#filter({ turn: this.#turns.value }));
    let timer = 0;
    text.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#filter({ text: text.value }), SEARCH_AFTER_MS);
    });
    this.node = el("section", { class: "wire-frames", "aria-label": "Frames" },
      el("div", { class: "wire-bar" }, text, this.#pauseButton, all, clear),
      el("div", { class: "wire-bar" }, directions, this.#types, this.#turns),
      el("div", { class: "wire-box" }, this.#list.node, this.#empty), this.#detail, this.#count);
  }

  paint() {
    this.#list.paint();
  }

  /** Updates the filters and the count. They are painted less often than the list. */
  paintControls() {
    updateOptions(this.#types, this.log.types, (type) => type);
    updateOptions(this.#turns, this.log.turns, shortId);
    const { shown, size, newWhilePaused, paused } = this.log;
    const frames = shown.length === size - newWhilePaused ? `${size - newWhilePaused} frames` : `${shown.length} of ${size - newWhilePaused} frames`;
    setText(this.#count, paused ? `Paused at ${frames}; ${newWhilePaused} new` : frames);
    this.#empty.hidden = shown.length > 0;
    setText(this.#empty, size > newWhilePaused ? "No frames match the filter." : "Frames appear here as they are sent and received.");
  }

  #filter(changes) {
    this.log.setFilter(changes);
    this.#repaint();
  }

  #togglePause() {
    this.log.paused = !this.log.paused;
    this.#pauseButton.setAttribute("aria-pressed", String(this.log.paused));
    setText(this.#pauseButton, this.log.paused ? "Resume" : "Pause");
    this.#repaint();
  }

  #clear() {
    this.log.clear();
    this.#list.select(null);
    this.#repaint();
  }

  #repaint() {
    this.paint();
    this.paintControls();
  }

  #showDetail(record) {
    this.#detail.hidden = !record;
    if (!record) return;
    const copy = copyButton(() => toJsonLine(record), "Copy frame", true);
    copy.dataset.testid = "wire-copy-one";
    const close = el("button", { type: "button", class: "icon-button", "aria-label": "Close", title: "Close", onclick: () => {
      this.#list.select(null);
      this.#list.node.focus();
    } }, icon("close"));
    const description = `${record.direction === "in" ? "Received" : "Sent"} on socket ${record.socket}: ${formatBytes(record.bytes)} of ${record.codec === "json" ? "JSON" : "MessagePack"}`;
    this.#detail.replaceChildren(
      el("div", { class: "wire-detail-head" }, el("span", { text: description }), copy, close),
      el("pre", { tabindex: "0", "aria-label": "Frame as JSON", text: JSON.stringify(record.frame, null, 2) }));
  }
}

/** Creates a select. By default its only option selects all values. */
function createSelect(label, testid, entries = [["", `All ${label.toLowerCase()}s`]]) {
  return el("select", { "aria-label": label, "data-testid": testid }, ...entries.map(([value, text]) => el("option", { value, text })));
}

/** Adds options for new values, and removes the options whose value is gone unless they are selected. */
function updateOptions(select, values, toText) {
  const existing = new Map([...select.options].slice(1).map((option) => [option.value, option]));
  for (const [value, option] of existing) if (!values.has(value) && select.value !== value) option.remove();
  for (const value of values) if (!existing.has(value)) select.append(el("option", { value, text: toText(value) }));
}
