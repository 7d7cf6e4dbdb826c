/** The wire view. It observes every frame while it is open. While it is closed, it only stores round trips. */

import { el, setText } from "../shared/dom.js";
import { formatBytes, formatCount } from "../shared/format.js";
import { schedulePaintAlone } from "../shared/frame_scheduler.js";
import { WireFrames } from "./wire_frames.js";
import { WireMeter } from "./wire_meter.js";
import { WireSizes } from "./wire_sizes.js";
import { WireSpeed } from "./wire_speed.js";

/** Faster updates can't be read. */
const LIST_EVERY_MS = 100;
const PLOT_EVERY_MS = 100;
/** Measuring draws nothing. It is frequent so that each run is short. */
const MEASURE_EVERY_MS = 100;
const TEXT_EVERY_MS = 250;
/** A job that is due within this time runs together with one that is due now. */
const SOON_MS = 50;
const ROUNDTRIPS_MAX = 40;
const CODEC_NAMES = { json: "JSON", msgpack: "MessagePack" };

export class WireView {
  #connection;
  #sizes = new WireSizes();
  #meter;
  #speed;
  #frames = new WireFrames();
  #roundtrips = [];
  #jobs;
  #framesAtClose = 0;
  #timer = 0;
  #tiles;
  #bars;
  #painter = { paint: (deadline) => this.#paintDue(deadline) };

  /**
   * @param {HTMLElement} panel
   * @param {import("../turnwire.js").Connection} connection
   */
  constructor(panel, connection) {
    this.#connection = connection;
    this.#meter = new WireMeter(connection);
    this.#speed = new WireSpeed(this.#meter);
    this.#tiles = Object.fromEntries([["roundtrip", "Round trip"], ["in", "Received"], ["out", "Sent"]].map(([name, title]) => [name, createTile(name, title)]));
    this.#bars = Object.fromEntries(Object.keys(CODEC_NAMES).map((name) => [name, this.#createCodecBar(name)]));
    this.#jobs = [
      { every: LIST_EVERY_MS, run: () => this.#frames.paint() },
      { every: PLOT_EVERY_MS, run: (now) => this.#speed.paint(now) },
      { every: TEXT_EVERY_MS, run: (now) => this.#speed.paintTable(now) },
      { every: TEXT_EVERY_MS, run: () => this.#frames.paintControls() },
      { every: TEXT_EVERY_MS, run: () => this.#paintTiles() },
      { every: TEXT_EVERY_MS, run: () => this.#paintSizes() },
      { every: MEASURE_EVERY_MS, run: (_, deadline) => this.#sizes.measure(deadline) },
    ].map((job) => ({ ...job, dueAt: 0 }));
    panel.append(
      el("div", { class: "wire-tiles" }, ...Object.values(this.#tiles).map(({ node }) => node)),
      el("fieldset", { class: "wire-sizes", "data-testid": "wire-sizes" },
        el("legend", { text: "Size of the frames below" }), ...Object.values(this.#bars).map(({ node }) => node)),
      this.#speed.node, this.#frames.node);
    connection.addEventListener("roundtrip", ({ detail }) => {
      this.#roundtrips.push(detail);
      if (this.#roundtrips.length > ROUNDTRIPS_MAX) this.#roundtrips.shift();
      if (this.#connection.wire) this.#scheduleDue();
    });
  }

  open() {
    if (this.#connection.wire) return;
    this.#frames.log.addGap(this.#framesAtClose > 0 ? frameCount(this.#connection.traffic) - this.#framesAtClose : frameCount(this.#connection.traffic));
    this.#connection.wire = (entry) => {
      this.#sizes.add(entry);
      this.#meter.add(entry);
      this.#frames.log.add(entry);
      this.#scheduleDue();
    };
    // The plot moves without new frames, and a new socket may change the codec.
    this.#timer = setInterval(() => this.#scheduleDue(), TEXT_EVERY_MS);
    if (this.#connection.state.state === "live") this.#connection.ping().catch(() => {});
    this.#scheduleDue();
  }

  close() {
    if (!this.#connection.wire) return;
    this.#connection.wire = null;
    this.#framesAtClose = frameCount(this.#connection.traffic);
    clearInterval(this.#timer);
  }

  /** Schedules a paint, but only if a job is due, because each such paint takes a frame from the answers. */
  #scheduleDue() {
    const now = performance.now();
    if (this.#jobs.some(({ dueAt }) => dueAt <= now)) schedulePaintAlone(this.#painter);
  }

  /** Runs the jobs that are due now or soon, the longest overdue first, until the frame budget is spent. */
  #paintDue(deadline) {
    if (!this.#connection.wire) return;
    const now = performance.now();
    for (const job of this.#jobs.filter(({ dueAt }) => dueAt <= now + SOON_MS).sort((a, b) => a.dueAt - b.dueAt)) {
      if (performance.now() > deadline) break;
      job.dueAt = now + job.every;
      job.run(now, deadline);
    }
    this.#scheduleDue();
  }

  #paintTiles() {
    const { in: received, out: sent, sockets } = this.#connection.traffic;
    const last = this.#roundtrips.at(-1);
    setText(this.#tiles.roundtrip.value, last === undefined ? "–" : `${last < 10 ? last.toFixed(1) : Math.round(last)} ms`);
    setText(this.#tiles.roundtrip.note, this.#roundtrips.length < 2 ? "measured every 10 s" : `${Math.min(...this.#roundtrips).toFixed(1)} to ${Math.max(...this.#roundtrips).toFixed(1)} ms`);
    setText(this.#tiles.in.value, formatBytes(received.bytes));
    setText(this.#tiles.in.note, `${formatCount(received.frames)} frames`);
    setText(this.#tiles.out.value, formatBytes(sent.bytes));
    setText(this.#tiles.out.note, `${formatCount(sent.frames)} frames, ${sockets} socket${sockets === 1 ? "" : "s"}`);
  }

  #paintSizes() {
    const largest = Math.max(1, this.#sizes.json, this.#sizes.msgpack);
    for (const [name, { input, fill, size }] of Object.entries(this.#bars)) {
      const bytes = this.#sizes[name];
      const difference = this.#sizes.json > 0 && name === "msgpack" ? ` (${Math.round((bytes / this.#sizes.json - 1) * 100)}%)`.replace("-", "−") : "";
      input.checked = this.#connection.codec === name;
      fill.style.width = `${(bytes / largest) * 100}%`;
      setText(size, `${formatBytes(bytes)}${difference}`);
    }
  }

  /** Creates a codec's radio button and size bar. Selecting it reconnects with that codec. */
  #createCodecBar(name) {
    const input = el("input", { type: "radio", name: "wire-codec", value: name, "data-testid": `codec-${name}`, onchange: () => this.#connection.switchCodec(name) });
    const fill = el("span", { class: "wire-fill" });
    const size = el("span", { class: "wire-size", "data-testid": `size-${name}` });
    const node = el("label", { class: "wire-codec" }, input, el("span", { class: "wire-codec-name", text: CODEC_NAMES[name] }), el("span", { class: "wire-track" }, fill), size);
    return { node, input, fill, size };
  }
}

function createTile(name, title) {
  const value = el("span", { class: "wire-value", "data-testid": `wire-${name}` });
  const note = el("span", { class: "wire-note" });
  return { node: el("div", { class: "wire-tile" }, el("span", { class: "wire-title", text: title }), value, note), value, note };
}

function frameCount(traffic) {
  return traffic.in.frames + traffic.out.frames;
}
