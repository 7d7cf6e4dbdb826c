/** Draws the last 30 s: tokens per second of each turn at the top, gaps between tokens at the bottom. */

import { BUCKET_MS, WINDOW_MS } from "./wire_meter.js";

export const SERIES = 8;
const COLORS_REFRESH_MS = 1_000;
const LEFT_PX = 34;
const TOP_PX = 16;
const BETWEEN_PX = 26;
const BOTTOM_PX = 4;
const GAP_FLOOR_MS = 1;
const GAP_CEILING_MS = 1_000;

export class WirePlot {
  #canvas;
  #swatches;
  #colors = null;
  #colorsAt = -Infinity;
  #scheme = "";
  #scaleMax = 10;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement[]} swatches whose CSS `color` is used: one per series, then one for lines and one for text
   */
  constructor(canvas, swatches) {
    this.#canvas = canvas;
    this.#swatches = swatches;
  }

  /**
   * Draws the plot.
   * @param {import("./wire_meter.js").WireMeter} meter
   * @param {number} now in ms from `performance.now()`
   */
  draw(meter, now) {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    this.#resize(width, height);
    const { colorScheme } = getComputedStyle(document.documentElement);
    if (now - this.#colorsAt > COLORS_REFRESH_MS || colorScheme !== this.#scheme) {
      this.#scheme = colorScheme;
      this.#colors = this.#swatches.map((swatch) => getComputedStyle(swatch).color);
      this.#colorsAt = now;
    }
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const plotHeight = (height - TOP_PX - BETWEEN_PX - BOTTOM_PX) / 2;
    const turns = [...meter.turns.values()].filter(({ lastAt }) => now - lastAt < WINDOW_MS + 1000);
    const x = (bucket) => width - ((now - (bucket + 1) * BUCKET_MS) / WINDOW_MS) * (width - LEFT_PX);
    this.#drawRates(context, turns, { x, now, width, top: TOP_PX, bottom: TOP_PX + plotHeight });
    this.#drawGaps(context, turns, { x, now, width, top: TOP_PX + plotHeight + BETWEEN_PX, bottom: height - BOTTOM_PX });
  }

  #resize(width, height) {
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    const canvas = this.#canvas;
    if (canvas.width === wide && canvas.height === high) return;
    canvas.width = wide;
    canvas.height = high;
    canvas.getContext("2d").scale(ratio, ratio);
  }

  #drawRates(context, turns, area) {
    const [first, last] = visibleBuckets(area.now);
    let maxRate = 10;
    const curves = turns.map((turn) => {
      const points = [];
      for (let bucket = first; bucket <= last; bucket++) {
        const rate = turn.rateAt(bucket);
        maxRate = Math.max(maxRate, rate);
        points.push(rate);
      }
      return { turn, points };
    });
    this.#scaleMax += (roundUp(maxRate) - this.#scaleMax) * 0.25; // the scale changes gradually
    const y = (rate) => area.bottom - (rate / this.#scaleMax) * (area.bottom - area.top);
    this.#drawAxes(context, area, "tokens/s per turn", [[y(0), "0"], [y(roundUp(maxRate)), String(roundUp(maxRate))], [y(roundUp(maxRate) / 2), String(roundUp(maxRate) / 2)]]);
    this.#drawClipped(context, area, () => {
      context.lineWidth = 1.75;
      context.lineJoin = "round";
      for (const { turn, points } of curves) {
        context.strokeStyle = this.#colors[turn.number % SERIES];
        context.beginPath();
        for (const [index, rate] of points.entries()) {
          if (rate > 0 || points[index - 1] > 0 || points[index + 1] > 0) {
            context[index === 0 || !(points[index - 1] > 0 || rate > 0) ? "moveTo" : "lineTo"](area.x(first + index), y(rate));
          }
        }
        context.stroke();
      }
    });
  }

  #drawGaps(context, turns, area) {
    const [first, last] = visibleBuckets(area.now);
    const scale = Math.log(GAP_CEILING_MS / GAP_FLOOR_MS);
    const y = (ms) => area.bottom - (Math.log(Math.min(GAP_CEILING_MS, Math.max(GAP_FLOOR_MS, ms)) / GAP_FLOOR_MS) / scale) * (area.bottom - area.top);
    this.#drawAxes(context, area, "longest gap between tokens, ms", [1, 10, 100, 1000].map((ms) => [y(ms), ms === 1000 ? "1 s" : String(ms)]));
    this.#drawClipped(context, area, () => {
      for (const turn of turns) {
        context.fillStyle = this.#colors[turn.number % SERIES];
        for (let bucket = first; bucket <= last; bucket++) {
          const gap = turn.gapAt(bucket);
          if (gap > 0) context.fillRect(area.x(bucket) - 1.25, y(gap) - 1.25, 2.5, 2.5);
        }
      }
    });
  }

  #drawAxes(context, { width, top }, title, ticks) {
    const [lineColor, textColor] = this.#colors.slice(SERIES);
    context.font = "10.5px ui-monospace, 'Liberation Mono', Menlo, Consolas, monospace";
    context.lineWidth = 1;
    context.strokeStyle = lineColor;
    context.fillStyle = textColor;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [at, label] of ticks) {
      if (at < top - 2) continue; // outside the plot until the scale has caught up
      const y = Math.round(at) + 0.5;
      context.beginPath();
      context.moveTo(LEFT_PX, y);
      context.lineTo(width, y);
      context.stroke();
      context.fillText(label, LEFT_PX - 6, y);
    }
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(title, LEFT_PX, top - 6);
  }

  #drawClipped(context, { width, top, bottom }, draw) {
    context.save();
    context.beginPath();
    context.rect(LEFT_PX, top - 2, width - LEFT_PX, bottom - top + 4);
    context.clip();
    draw();
    context.restore();
  }
}

/** Returns the first and the last complete bucket in the window. */
function visibleBuckets(now) {
  const last = Math.floor(now / BUCKET_MS) - 1;
  return [Math.max(0, last - WINDOW_MS / BUCKET_MS), last];
}

/** Returns the smallest of 10, 20, 50, 100, … that isn't less than `value`. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value - 1e-6);
}
