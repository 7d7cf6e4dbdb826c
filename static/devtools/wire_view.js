/** The wire view: looks at every frame while it is open, and costs nothing while it is closed. */

import { el, setText } from "../shared/dom.js";
import { paintSoon } from "../shared/frame_scheduler.js";
import { bytesOf, grouped } from "../shared/format.js";
import { WireFrames } from "./wire_frames.js";
import { WireMeter } from "./wire_meter.js";
import { WireSpeed } from "./wire_speed.js";
import { WireWeights } from "./wire_sizes.js";

/** Faster than that nobody reads. */
const LIST_EVERY_MS = 100;
const PLOT_EVERY_MS = 100;
const WORDS_EVERY_MS = 250;
const ROUNDTRIPS_MAX = 40;
const NAMES = { json: "JSON", msgpack: "MessagePack" };

export class WireView {
  #connection;
  #weights = new WireWeights();
  #meter;
  #speed;
  #frames = new WireFrames();
  #roundtrips = [];
  #jobs;
  #seen = 0;
  #timer = 0;
  #tiles;
  #bars;
  #paint = { paint: (until) => this.#show(until) };

  /**
   * @param {HTMLElement} panel
   * @param {import("../turnwire.js").Connection} connection
   */
  constructor(panel, connection) {
    this.#connection = connection;
    this.#meter = new WireMeter(connection);
    this.#speed = new WireSpeed(this.#meter);
    this.#tiles = Object.fromEntries([["roundtrip", "Round trip"], ["in", "Received"], ["out", "Sent"]].map(([name, title]) => [name, tile(name, title)]));
    this.#bars = Object.fromEntries(Object.keys(NAMES).map((name) => [name, this.#bar(name)]));
    this.#jobs = [
      { every: LIST_EVERY_MS, act: () => this.#frames.paint() },
      { every: PLOT_EVERY_MS, act: (now) => this.#speed.paint(now) },
      { every: WORDS_EVERY_MS, act: (now) => this.#speed.paintWords(now) },
      { every: WORDS_EVERY_MS, act: () => this.#frames.paintWords() },
      { every: WORDS_EVERY_MS, act: () => this.#showTiles() },
      { every: WORDS_EVERY_MS, act: (_, until) => this.#showWeights(until) },
    ].map((job) => ({ ...job, dueAt: 0 }));
    panel.append(
      el("div", { class: "wire-tiles" }, ...Object.values(this.#tiles).map(({ node }) => node)),
      el("fieldset", { class: "wire-weights", "data-testid": "wire-weights" },
        el("legend", { text: "What the frames below weigh" }), ...Object.values(this.#bars).map(({ node }) => node)),
      this.#speed.node, this.#frames.node);
    connection.addEventListener("roundtrip", ({ detail }) => {
      this.#roundtrips.push(detail);
      if (this.#roundtrips.length > ROUNDTRIPS_MAX) this.#roundtrips.shift();
      if (this.#connection.wire) paintSoon(this.#paint);
    });
  }

  open() {
    if (this.#connection.wire) return;
    this.#frames.log.gap(this.#seen > 0 ? framesOf(this.#connection.traffic) - this.#seen : framesOf(this.#connection.traffic));
    this.#connection.wire = (entry) => {
      this.#weights.take(entry);
      this.#meter.take(entry);
      this.#frames.log.take(entry);
      paintSoon(this.#paint);
    };
    // The plot moves on its own, and a socket that comes back changes the codec's mark.
    this.#timer = setInterval(() => paintSoon(this.#paint), WORDS_EVERY_MS);
    if (this.#connection.state.state === "live") this.#connection.ping().catch(() => {});
    paintSoon(this.#paint);
  }

  close() {
    if (!this.#connection.wire) return;
    this.#connection.wire = null;
    this.#seen = framesOf(this.#connection.traffic);
    clearInterval(this.#timer);
  }

  /** What is due, the longest due first, as far as the frame's time goes. */
  #show(until) {
    if (!this.#connection.wire) return;
    const now = performance.now();
    for (const job of this.#jobs.filter(({ dueAt }) => dueAt <= now).sort((one, other) => one.dueAt - other.dueAt)) {
      if (performance.now() > until) break;
      job.dueAt = now + job.every;
      job.act(now, until);
    }
    if (this.#jobs.some(({ dueAt }) => dueAt <= now)) paintSoon(this.#paint);
  }

  #showTiles() {
    const { in: taken, out, sockets } = this.#connection.traffic;
    const last = this.#roundtrips.at(-1);
    setText(this.#tiles.roundtrip.value, last === undefined ? "–" : `${last < 10 ? last.toFixed(1) : Math.round(last)} ms`);
    setText(this.#tiles.roundtrip.note, this.#roundtrips.length < 2 ? "every 10 s" : `${Math.min(...this.#roundtrips).toFixed(1)} to ${Math.max(...this.#roundtrips).toFixed(1)} ms`);
    setText(this.#tiles.in.value, bytesOf(taken.bytes));
    setText(this.#tiles.in.note, `${grouped(taken.frames)} frames`);
    setText(this.#tiles.out.value, bytesOf(out.bytes));
    setText(this.#tiles.out.note, `${grouped(out.frames)} frames, ${sockets} socket${sockets === 1 ? "" : "s"}`);
  }

  #showWeights(until) {
    this.#weights.weigh(until);
    const heaviest = Math.max(1, this.#weights.json, this.#weights.msgpack);
    for (const [name, { input, fill, weight }] of Object.entries(this.#bars)) {
      const bytes = this.#weights[name];
      const less = this.#weights.json > 0 && name === "msgpack" ? ` (${Math.round((bytes / this.#weights.json - 1) * 100)} %)`.replace("-", "−") : "";
      input.checked = this.#connection.codec === name;
      fill.style.width = `${(bytes / heaviest) * 100}%`;
      setText(weight, `${bytesOf(bytes)}${less}`);
    }
  }

  /** A codec with its weight; choosing it opens the next socket with it. */
  #bar(name) {
    const input = el("input", { type: "radio", name: "wire-codec", value: name, "data-testid": `codec-${name}`, onchange: () => this.#connection.switchCodec(name) });
    const fill = el("span", { class: "wire-fill" });
    const weight = el("span", { class: "wire-weight", "data-testid": `weight-${name}` });
    const node = el("label", { class: "wire-codec" }, input, el("span", { class: "wire-codec-name", text: NAMES[name] }), el("span", { class: "wire-track" }, fill), weight);
    return { node, input, fill, weight };
  }
}

function tile(name, title) {
  const value = el("span", { class: "wire-value", "data-testid": `wire-${name}` });
  const note = el("span", { class: "wire-note" });
  return { node: el("div", { class: "wire-tile" }, el("span", { class: "wire-title", text: title }), value, note), value, note };
}

function framesOf(traffic) {
  return traffic.in.frames + traffic.out.frames;
}
