/** The two ways to write a frame, each by its subprotocol: text that is JSON, or bytes that are MessagePack. */

import { decode, encode } from "./msgpack.js";

export const codecs = Object.freeze({
  json: Object.freeze({
    name: "json",
    subprotocol: "turnwire.v1.json",
    encode: (frame) => wholeCharacters(JSON.stringify(frame)),
    decode: (data) => JSON.parse(data),
    bytes: utf8Bytes,
  }),
  msgpack: Object.freeze({
    name: "msgpack",
    subprotocol: "turnwire.v1.msgpack",
    encode,
    decode: (data) => decode(new Uint8Array(data)),
    bytes: (data) => data.byteLength,
  }),
});

/** @param {string} name */
export function codecOf(name) {
  if (!Object.hasOwn(codecs, name)) throw new TypeError(`There is no codec "${name}": take "json" or "msgpack".`);
  return codecs[name];
}

/**
 * Half a character, as a text has it that was cut between two surrogates, becomes U+FFFD, as in MessagePack's UTF-8. The
 * gateway can't read a frame with one, nor say which request it was.
 */
function wholeCharacters(json) {
  // JSON.stringify escapes surrogates that stand alone, and no others.
  if (!json.includes("\\ud")) return json;
  return json.replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) => (found === "\\\\" ? found : "\ufffd"));
}

/** How many bytes a text has on the wire, without making them. */
function utf8Bytes(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    // A surrogate is half of four bytes; every other unit above 0x7ff has three.
    bytes += unit < 0x800 || (unit & 0xf800) === 0xd800 ? 1 : 2;
  }
  return bytes;
}
