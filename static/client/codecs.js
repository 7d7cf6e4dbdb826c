/** The two frame encodings, one per subprotocol: JSON text and MessagePack bytes. */

import { decode, encode } from "./msgpack.js";

export const codecs = Object.freeze({
  json: Object.freeze({
    name: "json",
    subprotocol: "turnwire.v1.json",
    encode: (frame) => replaceLoneSurrogates(JSON.stringify(frame)),
    decode: (data) => JSON.parse(data),
    bytes: utf8Length,
  }),
  msgpack: Object.freeze({
    name: "msgpack",
    subprotocol: "turnwire.v1.msgpack",
    encode,
    decode: (data) => decode(new Uint8Array(data)),
    bytes: (data) => data.byteLength,
  }),
});

/**
 * Returns a codec by its name.
 * @param {string} name
 * @throws {TypeError} the name is unknown
 */
export function codecOf(name) {
  if (!Object.hasOwn(codecs, name)) throw new TypeError(`Unknown codec "${name}". Use "json" or "msgpack".`);
  return codecs[name];
}

/**
 * Replaces lone surrogates, left by a text that was cut inside a surrogate pair, with U+FFFD, as MessagePack's UTF-8
 * does.
 *
 * The gateway can't decode a frame with a lone surrogate, and then can't tell which request it was.
 */
function replaceLoneSurrogates(json) {
  // JSON.stringify escapes lone surrogates and leaves pairs as they are.
  if (!json.includes("\\ud")) return json;
  return json.replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) => (found === "\\\\" ? found : "\ufffd"));
}

/** Returns the length of a text in UTF-8, in bytes, without encoding it. */
function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    // A surrogate pair takes 4 bytes, so each half counts 2. Any other unit from 0x800 takes 3.
    bytes += unit < 0x800 || (unit & 0xf800) === 0xd800 ? 1 : 2;
  }
  return bytes;
}
