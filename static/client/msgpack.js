/**
 * MessagePack for the protocol's maps: string keys, finite numbers, no extension types. Integers beyond 2^53 lose
 * precision, as in `JSON.parse`.
 */

const ASCII_CHARS_MAX = 24;
const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Encodes one value.
 * @param {unknown} value null, a boolean, number or string, or arrays and plain objects of these; undefined properties
 *   are left out
 * @returns {Uint8Array}
 * @throws {TypeError} the value has another type, such as a function
 */
export function encode(value) {
  const writer = new Writer();
  writer.write(value);
  return writer.bytes();
}

/**
 * Decodes one value.
 * @param {Uint8Array} bytes exactly one value
 * @throws {Error} the value is truncated or followed by more bytes, a text isn't UTF-8, a key isn't a string, or a type
 *   isn't part of the protocol
 */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.read();
  if (reader.remaining > 0) throw new Error(`MessagePack: ${reader.remaining} bytes follow the value.`);
  return value;
}

class Writer {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #offset = 0;

  bytes() {
    return this.#bytes.subarray(0, this.#offset);
  }

  write(value) {
    if (value === null || value === undefined) this.#writeByte(0xc0);
    else if (typeof value === "boolean") this.#writeByte(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "string") this.#string(value);
    else if (Array.isArray(value)) this.#array(value);
    else if (typeof value === "object") this.#map(value);
    else throw new TypeError(`MessagePack can't encode a ${typeof value}.`);
  }

  #number(value) {
    if (!Number.isFinite(value)) this.#writeByte(0xc0); // null, as in JSON.stringify
    else if (!Number.isSafeInteger(value)) this.#writeTagged(0xcb, 8, (at) => this.#view.setFloat64(at, value));
    else if (value >= 0) this.#unsigned(value);
    else this.#negative(value);
  }

  #unsigned(value) {
    if (value < 0x80) this.#writeByte(value);
    else if (value < 0x100) this.#writeTagged(0xcc, 1, (at) => this.#view.setUint8(at, value));
    else if (value < 0x10000) this.#writeTagged(0xcd, 2, (at) => this.#view.setUint16(at, value));
    else if (value < 0x100000000) this.#writeTagged(0xce, 4, (at) => this.#view.setUint32(at, value));
    else this.#writeTagged(0xcf, 8, (at) => this.#view.setBigUint64(at, BigInt(value)));
  }

  #negative(value) {
    if (value >= -0x20) this.#writeByte(value & 0xff);
    else if (value >= -0x80) this.#writeTagged(0xd0, 1, (at) => this.#view.setInt8(at, value));
    else if (value >= -0x8000) this.#writeTagged(0xd1, 2, (at) => this.#view.setInt16(at, value));
    else if (value >= -0x80000000) this.#writeTagged(0xd2, 4, (at) => this.#view.setInt32(at, value));
    else this.#writeTagged(0xd3, 8, (at) => this.#view.setBigInt64(at, BigInt(value)));
  }

  #string(value) {
    const encoded = utf8.encode(value);
    if (encoded.length < 32) this.#writeByte(0xa0 | encoded.length);
    else if (encoded.length < 0x100) this.#writeTagged(0xd9, 1, (at) => this.#view.setUint8(at, encoded.length));
    else this.#length(encoded.length, 0xda);
    this.#reserve(encoded.length);
    this.#bytes.set(encoded, this.#offset);
    this.#offset += encoded.length;
  }

  #array(value) {
    if (value.length < 16) this.#writeByte(0x90 | value.length);
    else this.#length(value.length, 0xdc);
    for (const item of value) this.write(item);
  }

  #map(value) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    if (entries.length < 16) this.#writeByte(0x80 | entries.length);
    else this.#length(entries.length, 0xde);
    for (const [key, item] of entries) {
      this.#string(key);
      this.write(item);
    }
  }

  /** Writes a length as 16 bits under `tag`, or as 32 bits under `tag + 1`. */
  #length(length, tag) {
    if (length < 0x10000) this.#writeTagged(tag, 2, (at) => this.#view.setUint16(at, length));
    else this.#writeTagged(tag + 1, 4, (at) => this.#view.setUint32(at, length));
  }

  #writeByte(value) {
    this.#reserve(1);
    this.#bytes[this.#offset++] = value;
  }

  #writeTagged(tag, size, write) {
    this.#writeByte(tag);
    this.#reserve(size);
    write(this.#offset);
    this.#offset += size;
  }

  #reserve(size) {
    if (this.#offset + size <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#offset + size));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}

class Reader {
  #bytes;
  #view;
  #offset = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remaining() {
    return this.#bytes.length - this.#offset;
  }

  read() {
    const tag = this.#view.getUint8(this.#offset++);
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
    const at = this.#offset;
    this.#offset += size;
    return at;
  }

  #string(length) {
    const at = this.#skip(length);
    if (this.#offset > this.#bytes.length) throw new RangeError("MessagePack: the text is truncated.");
    if (length > ASCII_CHARS_MAX) return text.decode(this.#bytes.subarray(at, this.#offset));
    let short = "";
    for (let i = at; i < this.#offset; i++) {
      if (this.#bytes[i] > 0x7f) return text.decode(this.#bytes.subarray(at, this.#offset));
      short += String.fromCharCode(this.#bytes[i]);
    }
    return short;
  }

  #array(length) {
    const items = [];
    for (let i = 0; i < length; i++) items.push(this.read());
    return items;
  }

  #map(length) {
    const map = {};
    for (let i = 0; i < length; i++) {
      const key = this.read();
      if (typeof key !== "string") throw new Error("MessagePack: a key isn't a string.");
      // Defines an own property, as JSON.parse does. A plain assignment would set the prototype.
      if (key === "__proto__") Object.defineProperty(map, key, { value: this.read(), enumerable: true, configurable: true, writable: true });
      else map[key] = this.read();
    }
    return map;
  }
}
