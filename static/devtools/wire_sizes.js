/** What the frames weigh in JSON and in MessagePack. What went over the wire is measured; the other is worked out. */

import { codecs } from "../turnwire.js";

/** A page in the background paints nothing; it must not collect frames without end. */
const UNWEIGHED_MAX = 2_000;
const WEIGHED_AT_ONCE = 16;
const OTHER = { json: "msgpack", msgpack: "json" };

export class WireWeights {
  json = 0;
  msgpack = 0;
  frames = 0;
  #unweighed = [];

  /** Notes a frame; it is weighed later, all of a frame's time together. */
  take(entry) {
    if (entry.frame.type === "auth") return; // its token is blanked, so its weight isn't known
    this.#unweighed.push(entry);
    if (this.#unweighed.length > UNWEIGHED_MAX) this.weigh();
  }

  /** Weighs what was noted, the oldest first, and leaves to the next time what doesn't fit in this. */
  weigh(until = Infinity) {
    let weighed = 0;
    for (const { frame, bytes, codec } of this.#unweighed) {
      if (weighed % WEIGHED_AT_ONCE === 0 && performance.now() > until) break;
      const other = codecs[OTHER[codec]];
      this[codec] += bytes;
      this[other.name] += other.bytes(other.encode(frame));
      weighed++;
    }
    this.#unweighed.splice(0, weighed);
    this.frames += weighed;
  }
}
