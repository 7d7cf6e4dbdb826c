/** The frames as a list: filtered, paused, copied, and one of them opened. */

import { copyButton } from "../shared/copy_button.js";
import { el, icon, setText } from "../shared/dom.js";
import { shortId, WireList } from "./wire_list.js";
import { lineOf, WireLog } from "./wire_log.js";
import { bytesOf } from "../shared/format.js";

const SEARCH_AFTER_MS = 150;

export class WireFrames {
  node;
  log = new WireLog();
  #list;
  #detail = el("section", { class: "wire-detail", "aria-label": "The frame", "data-testid": "wire-detail", hidden: true });
  #types = choice("Type", "wire-type");
  #turns = choice("Turn", "wire-turn");
  #count = el("span", { class: "wire-count", "data-testid": "wire-count" });
  #pause;
  #empty = el("p", { class: "wire-none" });

  constructor() {
    this.#list = new WireList(this.log, (record) => this.#open(record));
    const ways = choice("Direction", "wire-direction", [["", "Both ways"], ["in", "↓ In"], ["out", "↑ Out"]]);
    const text = el("input", { type: "search", placeholder: "Find in frames", "aria-label": "Find in frames", autocomplete: "off", "data-testid": "wire-text" });
    this.#pause = el("button", { type: "button", class: "quiet wire-pause", "aria-pressed": "false", "data-testid": "wire-pause", text: "Pause", onclick: () => this.#pauseOrGoOn() });
    const clear = el("button", { type: "button", class: "act", "aria-label": "Clear the list", title: "Clear the list", onclick: () => this.#clear() }, icon("bin"));
    const all = copyButton(() => this.log.lines(), "Copy what is shown, as lines of JSON", false);
    all.dataset.testid = "wire-copy-all";
    ways.addEventListener("change", () => this.#filter({ direction: ways.value }));
    this.#types.addEventListener("change", () => this.#filter({ type: this.#types.value }));
    this.#turns.addEventListener("change", () => this.#filter({ turn: this.#turns.value }));
    let typing = 0;
    text.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#filter({ text: text.value }), SEARCH_AFTER_MS);
    });
    this.node = el("section", { class: "wire-frames", "aria-label": "Frames" },
      el("div", { class: "wire-bar" }, text, this.#pause, all, clear),
      el("div", { class: "wire-bar" }, ways, this.#types, this.#turns),
      el("div", { class: "wire-box" }, this.#list.node, this.#empty), this.#detail, this.#count);
  }

  paint() {
    this.#list.paint();
  }

  /** What needn't be said at every frame. */
  paintWords() {
    options(this.#types, this.log.types, (type) => type);
    options(this.#turns, this.log.turns, shortId);
    const { shown, size, waiting, paused } = this.log;
    const frames = shown.length === size - waiting ? `${size - waiting} frames` : `${shown.length} of ${size - waiting} frames`;
    setText(this.#count, paused ? `Paused at ${frames}; ${waiting} more came since` : frames);
    this.#empty.hidden = shown.length > 0;
    setText(this.#empty, size > waiting ? "No frame fits the filter." : "Every frame shows up here as it goes or comes.");
  }

  #filter(wanted) {
    this.log.filter(wanted);
    this.#now();
  }

  #pauseOrGoOn() {
    this.log.paused = !this.log.paused;
    this.#pause.setAttribute("aria-pressed", String(this.log.paused));
    setText(this.#pause, this.log.paused ? "Go on" : "Pause");
    this.#now();
  }

  #clear() {
    this.log.clear();
    this.#list.select(null);
    this.#now();
  }

  #now() {
    this.paint();
    this.paintWords();
  }

  #open(record) {
    this.#detail.hidden = !record;
    if (!record) return;
    const copy = copyButton(() => lineOf(record), "Copy this frame", true);
    copy.dataset.testid = "wire-copy-one";
    const close = el("button", { type: "button", class: "act", "aria-label": "Close the frame", title: "Close the frame", onclick: () => {
      this.#list.select(null);
      this.#list.node.focus();
    } }, icon("close"));
    const told = `${record.direction === "in" ? "In" : "Out"} on socket ${record.socket}, ${bytesOf(record.bytes)} as ${record.codec === "json" ? "JSON" : "MessagePack"}`;
    this.#detail.replaceChildren(
      el("div", { class: "wire-detail-head" }, el("span", { text: told }), copy, close),
      el("pre", { tabindex: "0", "aria-label": "The frame as JSON", text: JSON.stringify(record.frame, null, 2) }));
  }
}

function choice(label, testid, entries = [["", `Every ${label.toLowerCase()}`]]) {
  return el("select", { "aria-label": label, "data-testid": testid }, ...entries.map(([value, text]) => el("option", { value, text })));
}

/** Adds what is new; takes away what is gone, but for what is chosen. */
function options(select, values, words) {
  const there = new Map([...select.options].slice(1).map((option) => [option.value, option]));
  for (const [value, option] of there) if (!values.has(value) && select.value !== value) option.remove();
  for (const value of values) if (!there.has(value)) select.append(el("option", { value, text: words(value) }));
}
