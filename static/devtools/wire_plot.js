/** The last half minute, drawn: tokens per second of each turn above, its gaps between tokens below. */

import { BUCKET_MS, WINDOW_MS } from "./wire_meter.js";

export const SERIES = 8;
const COLOURS_EVERY_MS = 1_000;
const LEFT_PX = 34;
const TOP_PX = 16;
const BETWEEN_PX = 26;
const BOTTOM_PX = 4;
const GAP_FLOOR_MS = 1;
const GAP_CEILING_MS = 1_000;

export class WirePlot {
  #canvas;
  #swatches;
  #colours = null;
  #coloursAt = -Infinity;
  #scheme = "";
  #top = 10;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement[]} swatches one for each series, then for lines and for words; their `color` is what is drawn with
   */
  constructor(canvas, swatches) {
    this.#canvas = canvas;
    this.#swatches = swatches;
  }

  /** @param {import("./wire_meter.js").WireMeter} meter */
  draw(meter, now) {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    this.#fit(width, height);
    const { colorScheme } = getComputedStyle(document.documentElement);
    if (now - this.#coloursAt > COLOURS_EVERY_MS || colorScheme !== this.#scheme) {
      this.#scheme = colorScheme;
      this.#colours = this.#swatches.map((swatch) => getComputedStyle(swatch).color);
      this.#coloursAt = now;
    }
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const each = (height - TOP_PX - BETWEEN_PX - BOTTOM_PX) / 2;
    const turns = [...meter.turns.values()].filter(({ lastAt }) => now - lastAt < WINDOW_MS + 1000);
    const x = (bucket) => width - ((now - (bucket + 1) * BUCKET_MS) / WINDOW_MS) * (width - LEFT_PX);
    this.#rates(context, turns, { x, now, width, top: TOP_PX, bottom: TOP_PX + each });
    this.#gaps(context, turns, { x, now, width, top: TOP_PX + each + BETWEEN_PX, bottom: height - BOTTOM_PX });
  }

  #fit(width, height) {
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    const canvas = this.#canvas;
    if (canvas.width === wide && canvas.height === high) return;
    canvas.width = wide;
    canvas.height = high;
    canvas.getContext("2d").scale(ratio, ratio);
  }

  #rates(context, turns, area) {
    const [first, last] = span(area.now);
    let highest = 10;
    const curves = turns.map((turn) => {
      const points = [];
      for (let bucket = first; bucket <= last; bucket++) {
        const rate = turn.rateAt(bucket);
        highest = Math.max(highest, rate);
        points.push(rate);
      }
      return { turn, points };
    });
    this.#top += (nice(highest) - this.#top) * 0.25; // the scale follows without a jump
    const y = (rate) => area.bottom - (rate / this.#top) * (area.bottom - area.top);
    this.#frame(context, area, "tokens/s per turn", [[y(0), "0"], [y(nice(highest)), String(nice(highest))], [y(nice(highest) / 2), String(nice(highest) / 2)]]);
    this.#clip(context, area, () => {
      context.lineWidth = 1.75;
      context.lineJoin = "round";
      for (const { turn, points } of curves) {
        context.strokeStyle = this.#colours[turn.number % SERIES];
        context.beginPath();
        for (const [place, rate] of points.entries()) {
          if (rate > 0 || points[place - 1] > 0 || points[place + 1] > 0) {
            context[place === 0 || !(points[place - 1] > 0 || rate > 0) ? "moveTo" : "lineTo"](area.x(first + place), y(rate));
          }
        }
        context.stroke();
      }
    });
  }

  #gaps(context, turns, area) {
    const [first, last] = span(area.now);
    const scale = Math.log(GAP_CEILING_MS / GAP_FLOOR_MS);
    const y = (ms) => area.bottom - (Math.log(Math.min(GAP_CEILING_MS, Math.max(GAP_FLOOR_MS, ms)) / GAP_FLOOR_MS) / scale) * (area.bottom - area.top);
    this.#frame(context, area, "longest gap between tokens, ms", [1, 10, 100, 1000].map((ms) => [y(ms), ms === 1000 ? "1 s" : String(ms)]));
    this.#clip(context, area, () => {
      for (const turn of turns) {
        context.fillStyle = this.#colours[turn.number % SERIES];
        for (let bucket = first; bucket <= last; bucket++) {
          const gap = turn.gapAt(bucket);
          if (gap > 0) context.fillRect(area.x(bucket) - 1.25, y(gap) - 1.25, 2.5, 2.5);
        }
      }
    });
  }

  #frame(context, { width, top }, title, ticks) {
    const [line, words] = this.#colours.slice(SERIES);
    context.font = "10.5px ui-monospace, 'Liberation Mono', Menlo, Consolas, monospace";
    context.lineWidth = 1;
    context.strokeStyle = line;
    context.fillStyle = words;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [at, label] of ticks) {
      if (at < top - 2) continue; // the scale is on its way there
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

  #clip(context, { width, top, bottom }, draw) {
    context.save();
    context.beginPath();
    context.rect(LEFT_PX, top - 2, width - LEFT_PX, bottom - top + 4);
    context.clip();
    draw();
    context.restore();
  }
}

/** The buckets in sight that are whole. */
function span(now) {
  const last = Math.floor(now / BUCKET_MS) - 1;
  return [Math.max(0, last - WINDOW_MS / BUCKET_MS), last];
}

/** The next of 10, 20, 50, 100, … */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value - 1e-6);
}
