/** A list of any length with as many rows in the DOM as fit the window: they are filled anew as it moves. */

import { el, setText } from "../shared/dom.js";
import { paintSoon } from "../shared/frame_scheduler.js";
import { bytesOf } from "../shared/format.js";
import { summaryOf } from "./wire_log.js";

const ROW_PX = 26;
const SPARE_ROWS = 4;
const AT_END_PX = ROW_PX;

export class WireList {
  node;
  /** The record that is looked at. */
  selected = null;
  #log;
  #window = el("div", { class: "wire-window" });
  #space = el("div", { class: "wire-space" }, this.#window);
  #rows = [];
  #follow = true;
  #onSelect;

  /**
   * @param {import("./wire_log.js").WireLog} log
   * @param {(record: object | null) => void} onSelect
   */
  constructor(log, onSelect) {
    this.#log = log;
    this.#onSelect = onSelect;
    this.node = el("div", { class: "wire-list", role: "listbox", tabindex: "0", "aria-label": "Frames", "data-testid": "wire-list" }, this.#space);
    this.node.addEventListener("scroll", () => {
      this.#follow = this.node.scrollTop + this.node.clientHeight >= this.node.scrollHeight - AT_END_PX;
      paintSoon(this);
    }, { passive: true });
    this.node.addEventListener("keydown", (event) => this.#key(event));
    this.#space.addEventListener("click", ({ target }) => {
      const row = this.#rows.find(({ node }) => node.contains(target));
      if (!row?.record || row.record.gap) return;
      this.#follow = false; // what is looked at stays in sight until the list is scrolled to its end
      this.select(row.record === this.selected ? null : row.record);
    });
    new ResizeObserver(() => paintSoon(this)).observe(this.node);
  }

  select(record) {
    this.selected = record;
    this.#onSelect(record);
    paintSoon(this);
  }

  paint() {
    const { shown } = this.#log;
    const height = this.node.clientHeight;
    if (height === 0) return;
    this.#space.style.height = `${shown.length * ROW_PX}px`;
    if (this.#follow && !this.#log.paused) this.node.scrollTop = shown.length * ROW_PX;
    const first = Math.max(0, Math.floor(this.node.scrollTop / ROW_PX) - SPARE_ROWS);
    const count = Math.min(shown.length - first, Math.ceil(height / ROW_PX) + 2 * SPARE_ROWS);
    this.#window.style.transform = `translateY(${first * ROW_PX}px)`;
    while (this.#rows.length < count) this.#rows.push(this.#makeRow());
    for (const [place, row] of this.#rows.entries()) {
      if (row.node.hidden !== place >= count) row.node.hidden = place >= count;
      if (place < count) this.#fill(row, shown[first + place]);
    }
    const active = this.#rows.find(({ record, node }) => record === this.selected && record && !node.hidden);
    if (active) this.node.setAttribute("aria-activedescendant", active.node.id);
    else this.node.removeAttribute("aria-activedescendant");
  }

  #makeRow() {
    const cells = ["at", "way", "type", "turn", "said", "bytes"].map((name) => el("span", { class: `wire-${name}` }));
    const node = el("div", { class: "wire-row", role: "option", id: `wire-row-${this.#rows.length}` }, ...cells);
    this.#window.append(node);
    return { node, cells, record: null };
  }

  #fill(row, record) {
    const selected = String(record === this.selected);
    if (row.node.getAttribute("aria-selected") !== selected) row.node.setAttribute("aria-selected", selected);
    if (row.record === record) return;
    row.record = record;
    const { node, cells } = row;
    const direction = record.gap ? "gap" : record.direction;
    if (node.dataset.direction !== direction) node.dataset.direction = direction;
    const told = record.gap
      ? ["", "", "", "", `${record.gap} frames passed while this view was closed`, ""]
      : [clock(record.at), record.direction === "in" ? "↓" : "↑", record.frame.type, shortId(record.frame.turn), summaryOf(record), bytesOf(record.bytes)];
    for (const [place, text] of told.entries()) setText(cells[place], text);
  }

  #key(event) {
    const { shown } = this.#log;
    const page = Math.max(1, Math.floor(this.node.clientHeight / ROW_PX) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || shown.length === 0) return;
    event.preventDefault();
    const at = this.selected ? shown.indexOf(this.selected) : -1;
    const from = at >= 0 ? at : step > 0 ? Math.floor(this.node.scrollTop / ROW_PX) - 1 : shown.length;
    const to = Math.min(shown.length - 1, Math.max(0, from + step));
    const top = to * ROW_PX;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (top + ROW_PX > this.node.scrollTop + this.node.clientHeight) this.node.scrollTop = top + ROW_PX - this.node.clientHeight;
    this.#follow = to === shown.length - 1;
    if (!shown[to].gap) this.select(shown[to]);
  }
}

/** Seconds since the page was opened. */
function clock(at) {
  return (at / 1000).toFixed(2);
}

export function shortId(turn) {
  return turn === undefined ? "" : turn.length > 7 ? `…${turn.slice(-5)}` : turn;
}
