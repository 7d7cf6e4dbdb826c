/** The speed section: the plot, and a table with the speed of each turn. */

import { el, setText } from "../shared/dom.js";
import { formatDuration, shortId } from "../shared/format.js";
import { WINDOW_MS } from "./wire_meter.js";
import { SERIES, WirePlot } from "./wire_plot.js";

const ROWS_MAX = 20;
const REDUCED_MOTION_EVERY_MS = 500;
const COLUMNS = ["Turn", "First token", "Tokens/s", "Gap", "Longest"];

export class WireSpeed {
  node;
  #meter;
  #plot;
  #canvas;
  #rows = [];
  #body = el("tbody");
  #empty = el("p", { class: "wire-empty", text: "Nothing has streamed since this view was opened. Send a prompt." });
  #table;
  #lastDrawnAt = 0;
  #reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

  /** @param {import("./wire_meter.js").WireMeter} meter */
  constructor(meter) {
    this.#meter = meter;
    this.#canvas = el("canvas", { class: "wire-plot", role: "img", "aria-label": "Tokens per second and gaps between tokens, last 30 seconds", "data-testid": "wire-plot" });
    const swatches = Array.from({ length: SERIES }, (_, number) => el("i", { class: `series series-${number}` }));
    swatches.push(el("i", { class: "plot-line" }), el("i", { class: "plot-text" }));
    this.#plot = new WirePlot(this.#canvas, swatches);
    const head = el("tr", {}, ...COLUMNS.map((title) => el("th", { scope: "col", text: title })));
    this.#table = el("div", { class: "wire-turns", tabindex: "0", role: "region", "aria-label": "Speed of each turn" },
      el("table", { "data-testid": "wire-turns" }, el("thead", {}, head), this.#body));
    this.node = el("section", { class: "wire-speed", "aria-label": "Speed" }, el("div", { hidden: true }, ...swatches), this.#canvas, this.#table, this.#empty);
  }

  paint(now) {
    if (this.#reducedMotion.matches && now - this.#lastDrawnAt < REDUCED_MOTION_EVERY_MS) return;
    if (this.#lastDrawnAt > 0 && this.#lastDrawnAt - this.#meter.lastAt > WINDOW_MS + REDUCED_MOTION_EVERY_MS) return; // an empty plot doesn't change
    this.#lastDrawnAt = now;
    this.#plot.draw(this.#meter, now);
  }

  paintTable(now) {
    const turns = [...this.#meter.turns.values()].reverse().slice(0, ROWS_MAX);
    this.#table.hidden = turns.length === 0;
    this.#empty.hidden = turns.length > 0;
    while (this.#rows.length < turns.length) this.#rows.push(this.#createRow());
    for (const [index, turn] of turns.entries()) {
      const { swatch, cells } = this.#rows[index];
      const rate = turn.rate(now);
      swatch.setAttribute("class", `series series-${turn.number % SERIES}`);
      const values = [shortId(turn.id), formatDuration(turn.ttft_ms), rate === null ? "–" : rate.toFixed(rate < 10 ? 1 : 0), formatGap(turn.medianGap_ms), formatGap(turn.gapMax_ms || null)];
      for (const [column, text] of values.entries()) setText(cells[column], text);
    }
  }

  #createRow() {
    const swatch = el("i", { class: "series" });
    const cells = COLUMNS.map(() => el("span"));
    const row = el("tr", {}, el("th", { scope: "row" }, swatch, cells[0]), ...cells.slice(1).map((cell) => el("td", {}, cell)));
    this.#body.append(row);
    return { swatch, cells };
  }
}

function formatGap(ms) {
  return ms !== null && ms < 10 ? `${ms.toFixed(1)} ms` : formatDuration(ms);
}
