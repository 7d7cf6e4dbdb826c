/** A virtual list of frames. It has a few more rows than are visible, and fills them again as it scrolls. */

import { el, setText } from "../shared/dom.js";
import { formatBytes, shortId } from "../shared/format.js";
import { schedulePaintAlone } from "../shared/frame_scheduler.js";
import { summarize } from "./wire_log.js";

const ROW_PX = 26;
const SPARE_ROWS = 4;
const END_TOLERANCE_PX = ROW_PX;

export class WireList {
  node;
  /** The record whose details are shown. */
  selected = null;
  #log;
  #window = el("div", { class: "wire-window" });
  #spacer = el("div", { class: "wire-space" }, this.#window);
  #rows = [];
  #followEnd = true;
  /** The height of the visible part. It is stored because reading it from the node can force a layout. */
  #height = 0;
  /** The scroll position of the last paint. */
  #paintedTop = 0;
  #onSelect;

  /**
   * @param {import("./wire_log.js").WireLog} log
   * @param {(record: object | null) => void} onSelect
   */
  constructor(log, onSelect) {
    this.#log = log;
    this.#onSelect = onSelect;
    this.node = el("div", { class: "wire-list", role: "listbox", tabindex: "0", "aria-label": "Frames", "data-testid": "wire-list" }, this.#spacer);
    this.node.addEventListener("scroll", () => {
      if (this.node.scrollTop === this.#paintedTop) return; // the last paint scrolled it
      this.#followEnd = this.node.scrollTop + this.node.clientHeight >= this.node.scrollHeight - END_TOLERANCE_PX;
      schedulePaintAlone(this);
    }, { passive: true });
    this.node.addEventListener("keydown", (event) => this.#onKeyDown(event));
    this.#spacer.addEventListener("click", ({ target }) => {
      const row = this.#rows.find(({ node }) => node.contains(target));
      if (!row?.record || row.record.gap) return;
      this.#followEnd = false; // keeps the selected row in view until the user scrolls to the end
      this.select(row.record === this.selected ? null : row.record);
    });
    new ResizeObserver(() => {
      this.#height = this.node.clientHeight;
      schedulePaintAlone(this);
    }).observe(this.node);
  }

  select(record) {
    this.selected = record;
    this.#onSelect(record);
    schedulePaintAlone(this);
  }

  paint() {
    const { shown } = this.#log;
    const height = this.#height;
    if (height === 0) return;
    const total = shown.length * ROW_PX;
    const end = Math.max(0, total - height);
    const followsEnd = this.#followEnd && !this.#log.paused;
    this.#paintedTop = followsEnd ? end : Math.min(end, this.node.scrollTop);
    this.#spacer.style.height = `${total}px`;
    const first = Math.max(0, Math.floor(this.#paintedTop / ROW_PX) - SPARE_ROWS);
    const count = Math.min(shown.length - first, Math.ceil(height / ROW_PX) + 2 * SPARE_ROWS);
    this.#window.style.transform = `translateY(${first * ROW_PX}px)`;
    while (this.#rows.length < count) this.#rows.push(this.#createRow());
    for (const [index, row] of this.#rows.entries()) {
      if (row.node.hidden !== index >= count) row.node.hidden = index >= count;
      if (index < count) this.#fill(row, shown[first + index]);
    }
    const active = this.#rows.find(({ record, node }) => record === this.selected && record && !node.hidden);
    if (active) this.node.setAttribute("aria-activedescendant", active.node.id);
    else this.node.removeAttribute("aria-activedescendant");
    if (!followsEnd) return;
    // Scrolling forces a layout, so it comes last, when the rows are filled.
    this.node.scrollTop = total;
    this.#paintedTop = this.node.scrollTop;
  }

  #createRow() {
    const cells = ["time", "direction", "type", "turn", "summary", "bytes"].map((name) => el("span", { class: `wire-${name}` }));
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
    const values = record.gap
      ? ["", "", "", "", `${record.gap} frame${record.gap === 1 ? "" : "s"} not recorded while this view was closed`, ""]
      : [formatTime(record.at), record.direction === "in" ? "↓" : "↑", record.frame.type, shortId(record.frame.turn), summarize(record), formatBytes(record.bytes)];
    for (const [index, text] of values.entries()) setText(cells[index], text);
  }

  #onKeyDown(event) {
    const { shown } = this.#log;
    const page = Math.max(1, Math.floor(this.node.clientHeight / ROW_PX) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || shown.length === 0) return;
    event.preventDefault();
    const current = this.selected ? shown.indexOf(this.selected) : -1;
    const from = current >= 0 ? current : step > 0 ? Math.floor(this.node.scrollTop / ROW_PX) - 1 : shown.length;
    const to = Math.min(shown.length - 1, Math.max(0, from + step));
    const top = to * ROW_PX;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (top + ROW_PX > this.node.scrollTop + this.node.clientHeight) this.node.scrollTop = top + ROW_PX - this.node.clientHeight;
    this.#followEnd = to === shown.length - 1;
    if (!shown[to].gap) this.select(shown[to]);
  }
}

/** Formats a time in ms from `performance.now()`, as seconds since the page was opened. */
function formatTime(ms) {
  return (ms / 1000).toFixed(2);
}
