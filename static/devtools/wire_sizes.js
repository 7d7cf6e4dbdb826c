/**
 * Sums the sizes of the frames in JSON and in MessagePack. The size in the codec in use is known. For the other, each
 * frame is encoded.
 */

import { codecs } from "../turnwire.js";

/** A page in the background paints nothing, so if more frames are queued, the oldest are measured without a paint. */
const QUEUED_MAX = 2_000;
const BATCH = 16;
const OTHER = { json: "msgpack", msgpack: "json" };

export class WireSizes {
  /** In bytes. */
  json = 0;
  /** In bytes. */
  msgpack = 0;
  #queue = [];

  /** Queues a frame, to be measured in a batch. @param {import("../turnwire.js").WireEntry} entry */
  add(entry) {
    if (entry.frame.type === "auth") return; // its token is masked, so its size is unknown
    this.#queue.push(entry);
    if (this.#queue.length > QUEUED_MAX) this.measure(0); // all of them would be a long task
  }

  /** Measures queued frames, oldest first, until `deadline`, a `performance.now()` time; at least one batch. */
  measure(deadline = Infinity) {
    let measured = 0;
    for (const { frame, bytes, codec } of this.#queue) {
      if (measured > 0 && measured % BATCH === 0 && performance.now() > deadline) break;
      const other = codecs[OTHER[codec]];
      this[codec] += bytes;
      this[other.name] += other.bytes(other.encode(frame));
      measured++;
    }
    this.#queue.splice(0, measured);
  }
}
