/**
 * MessagePack for the protocol's maps: string keys, finite numbers, no extension types.
 * Integers beyond 2^53 lose their last digits, as they do in `JSON.parse`.
 */

const ASCII_CHARS_MAX = 24;
const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * @param {unknown} value what `JSON.stringify` takes too; properties that are undefined are left out
 * @returns {Uint8Array}
 */
export function encode(value) {
  const writer = new Writer();
  writer.put(value);
  return writer.bytes();
}

/**
 * @param {Uint8Array} bytes exactly one value
 * @throws {Error} what is cut off, followed by more, or uses an extension type
 */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.take();
  if (reader.left > 0) throw new Error(`MessagePack: ${reader.left} bytes follow the value.`);
  return value;
}

class Writer {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  bytes() {
    return this.#bytes.subarray(0, this.#at);
  }

  put(value) {
    if (value === null || value === undefined) this.#byte(0xc0);
    else if (typeof value === "boolean") this.#byte(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "string") this.#string(value);
    else if (Array.isArray(value)) this.#array(value);
    else if (typeof value === "object") this.#map(value);
    else throw new TypeError(`MessagePack can't carry a ${typeof value}.`);
  }

  #number(value) {
    if (!Number.isFinite(value)) this.#byte(0xc0); // as JSON.stringify does
    else if (!Number.isSafeInteger(value)) this.#wide(0xcb, 8, (at) => this.#view.setFloat64(at, value));
    else if (value >= 0) this.#unsigned(value);
    else this.#negative(value);
  }

  #unsigned(value) {
    if (value < 0x80) this.#byte(value);
    else if (value < 0x100) this.#wide(0xcc, 1, (at) => this.#view.setUint8(at, value));
    else if (value < 0x10000) this.#wide(0xcd, 2, (at) => this.#view.setUint16(at, value));
    else if (value < 0x100000000) this.#wide(0xce, 4, (at) => this.#view.setUint32(at, value));
    else this.#wide(0xcf, 8, (at) => this.#view.setBigUint64(at, BigInt(value)));
  }

  #negative(value) {
    if (value >= -0x20) this.#byte(value & 0xff);
    else if (value >= -0x80) this.#wide(0xd0, 1, (at) => this.#view.setInt8(at, value));
    else if (value >= -0x8000) this.#wide(0xd1, 2, (at) => this.#view.setInt16(at, value));
    else if (value >= -0x80000000) this.#wide(0xd2, 4, (at) => this.#view.setInt32(at, value));
    else this.#wide(0xd3, 8, (at) => this.#view.setBigInt64(at, BigInt(value)));
  }

  #string(value) {
    const encoded = utf8.encode(value);
    if (encoded.length < 32) this.#byte(0xa0 | encoded.length);
    else if (encoded.length < 0x100) this.#wide(0xd9, 1, (at) => this.#view.setUint8(at, encoded.length));
    else this.#length(encoded.length, 0xda);
    this.#room(encoded.length);
    this.#bytes.set(encoded, this.#at);
    this.#at += encoded.length;
  }

  #array(value) {
    if (value.length < 16) this.#byte(0x90 | value.length);
    else this.#length(value.length, 0xdc);
    for (const item of value) this.put(item);
  }

  #map(value) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    if (entries.length < 16) this.#byte(0x80 | entries.length);
    else this.#length(entries.length, 0xde);
    for (const [key, item] of entries) {
      this.#string(key);
      this.put(item);
    }
  }

  /** A length in 16 bits under `tag`, or in 32 bits under the next one. */
  #length(length, tag) {
    if (length < 0x10000) this.#wide(tag, 2, (at) => this.#view.setUint16(at, length));
    else this.#wide(tag + 1, 4, (at) => this.#view.setUint32(at, length));
  }

  #byte(value) {
    this.#room(1);
    this.#bytes[this.#at++] = value;
  }

  #wide(tag, size, set) {
    this.#byte(tag);
    this.#room(size);
    set(this.#at);
    this.#at += size;
  }

  #room(size) {
    if (this.#at + size <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + size));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}

class Reader {
  #bytes;
  #view;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left() {
    return this.#bytes.length - this.#at;
  }

  take() {
    const tag = this.#view.getUint8(this.#at++);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 0x0f);
    if (tag < 0xa0) return this.#array(tag & 0x0f);
    if (tag < 0xc0) return this.#string(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.#tagged(tag);
  }

  #tagged(tag) {
    const view = this.#view;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return view.getFloat32(this.#skip(4));
      case 0xcb: return view.getFloat64(this.#skip(8));
      case 0xcc: return view.getUint8(this.#skip(1));
      case 0xcd: return view.getUint16(this.#skip(2));
      case 0xce: return view.getUint32(this.#skip(4));
      case 0xcf: return Number(view.getBigUint64(this.#skip(8)));
      case 0xd0: return view.getInt8(this.#skip(1));
      case 0xd1: return view.getInt16(this.#skip(2));
      case 0xd2: return view.getInt32(this.#skip(4));
      case 0xd3: return Number(view.getBigInt64(this.#skip(8)));
      case 0xd9: return this.#string(view.getUint8(this.#skip(1)));
      case 0xda: return this.#string(view.getUint16(this.#skip(2)));
      case 0xdb: return this.#string(view.getUint32(this.#skip(4)));
      case 0xdc: return this.#array(view.getUint16(this.#skip(2)));
      case 0xdd: return this.#array(view.getUint32(this.#skip(4)));
      case 0xde: return this.#map(view.getUint16(this.#skip(2)));
      case 0xdf: return this.#map(view.getUint32(this.#skip(4)));
      default: throw new Error(`MessagePack: type 0x${tag.toString(16)} is not part of the protocol.`);
    }
  }

  #skip(size) {
    const at = this.#at;
    this.#at += size;
    return at;
  }

  #string(length) {
    const at = this.#skip(length);
    if (this.#at > this.#bytes.length) throw new RangeError("MessagePack: a text is cut off.");
    if (length > ASCII_CHARS_MAX) return text.decode(this.#bytes.subarray(at, this.#at));
    let short = "";
    for (let i = at; i < this.#at; i++) {
      if (this.#bytes[i] > 0x7f) return text.decode(this.#bytes.subarray(at, this.#at));
      short += String.fromCharCode(this.#bytes[i]);
    }
    return short;
  }

  #array(length) {
    const items = [];
    for (let i = 0; i < length; i++) items.push(this.take());
    return items;
  }

  #map(length) {
    const map = {};
    for (let i = 0; i < length; i++) {
      const key = this.take();
      if (typeof key !== "string") throw new Error("MessagePack: a key is not a text.");
      // An own property, as JSON.parse makes it; plain assignment would set the prototype.
      if (key === "__proto__") Object.defineProperty(map, key, { value: this.take(), enumerable: true, configurable: true, writable: true });
      else map[key] = this.take();
    }
    return map;
  }
}
