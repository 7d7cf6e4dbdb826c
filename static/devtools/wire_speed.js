/** The speed of the turns: the plot, and a table with the numbers of each. */

import { el, setText } from "../shared/dom.js";
import { duration } from "../shared/format.js";
import { shortId } from "./wire_list.js";
import { WINDOW_MS } from "./wire_meter.js";
import { SERIES, WirePlot } from "./wire_plot.js";

const ROWS_MAX = 20;
const CALM_EVERY_MS = 500;
const COLUMNS = ["Turn", "First token", "Tokens/s", "Gap", "Longest"];

export class WireSpeed {
  node;
  #meter;
  #plot;
  #canvas;
  #rows = [];
  #body = el("tbody");
  #none = el("p", { class: "wire-none", text: "Nothing has streamed since this view was opened. Ask something." });
  #table;
  #drawnAt = 0;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  /** @param {import("./wire_meter.js").WireMeter} meter */
  constructor(meter) {
    this.#meter = meter;
    this.#canvas = el("canvas", { class: "wire-plot", role: "img", "aria-label": "Tokens per second and gaps of the last 30 seconds", "data-testid": "wire-plot" });
    const swatches = Array.from({ length: SERIES }, (_, number) => el("i", { class: `series series-${number}` }));
    swatches.push(el("i", { class: "plot-line" }), el("i", { class: "plot-words" }));
    this.#plot = new WirePlot(this.#canvas, swatches);
    const head = el("tr", {}, ...COLUMNS.map((title) => el("th", { scope: "col", text: title })));
    this.#table = el("div", { class: "wire-turns", tabindex: "0", role: "region", "aria-label": "Speed of each turn" },
      el("table", { "data-testid": "wire-turns" }, el("thead", {}, head), this.#body));
    this.node = el("section", { class: "wire-speed", "aria-label": "Speed" }, el("div", { hidden: true }, ...swatches), this.#canvas, this.#table, this.#none);
  }

  paint(now) {
    if (this.#calm.matches && now - this.#drawnAt < CALM_EVERY_MS) return;
    if (this.#drawnAt > 0 && this.#drawnAt - this.#meter.lastAt > WINDOW_MS + CALM_EVERY_MS) return; // an empty plot stands still
    this.#drawnAt = now;
    this.#plot.draw(this.#meter, now);
  }

  paintWords(now) {
    const turns = [...this.#meter.turns.values()].reverse().slice(0, ROWS_MAX);
    this.#table.hidden = turns.length === 0;
    this.#none.hidden = turns.length > 0;
    while (this.#rows.length < turns.length) this.#rows.push(this.#makeRow());
    for (const [place, turn] of turns.entries()) {
      const { swatch, cells } = this.#rows[place];
      const rate = turn.rate(now);
      swatch.setAttribute("class", `series series-${turn.number % SERIES}`);
      const told = [shortId(turn.id), duration(turn.ttft_ms), rate === null ? "–" : rate.toFixed(rate < 10 ? 1 : 0), gap(turn.gap_ms), gap(turn.gapMax_ms || null)];
      for (const [column, text] of told.entries()) setText(cells[column], text);
    }
  }

  #makeRow() {
    const swatch = el("i", { class: "series" });
    const cells = COLUMNS.map(() => el("span"));
    const row = el("tr", {}, el("th", { scope: "row" }, swatch, cells[0]), ...cells.slice(1).map((cell) => el("td", {}, cell)));
    this.#body.append(row);
    return { swatch, cells };
  }
}

function gap(ms) {
  return ms !== null && ms < 10 ? `${ms.toFixed(1)} ms` : duration(ms);
}
