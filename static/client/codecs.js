/** The two frame encodings, one per subprotocol: JSON text and MessagePack bytes. */

import { decode, encode } from "./msgpack.js";

/** The version of the protocol that this client speaks. */
export const PROTOCOL = "turnwire.v1";

export const codecs = Object.freeze({
  json: Object.freeze({
    name: "json",
    subprotocol: `${PROTOCOL}.json`,
    encode: (frame) => replaceLoneSurrogates(JSON.stringify(frame)),
    decode: (data) => JSON.parse(data),
    bytes: utf8Length,
  }),
  msgpack: Object.freeze({
    name: "msgpack",
    subprotocol: `${PROTOCOL}.msgpack`,
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
 * Replaces lone surrogates with U+FFFD, as `TextEncoder` does in the MessagePack codec.
 *
 * Text that was cut inside a surrogate pair contains one. The gateway couldn't decode the frame, not even its id, so the
 * request would get no answer of its own.
 */
function replaceLoneSurrogates(json) {
  // JSON.stringify escapes lone surrogates and leaves pairs as they are.
  if (!json.includes("\\ud")) return json;
  return json.replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) => (found === "\\\\" ? found : "\ufffd"));
}

/** Returns the number of bytes that a text takes in UTF-8, without encoding it. */
function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    // A surrogate pair takes 4 bytes, so add 1 to each half. Any other unit of 0x800 or more takes 3.
    bytes += unit < 0x800 || (unit & 0xf800) === 0xd800 ? 1 : 2;
  }
  return bytes;
}
