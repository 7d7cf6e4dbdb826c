/**
 * Converts files to parts of a prompt: images for models that see, text files as text for every model, other files for
 * models that take files. Loaded with the first file.
 */

import { el, icon } from "../shared/dom.js";
import { formatBytes } from "../shared/format.js";
import { toFileText } from "./file_text.js";
import { toBase64, toImagePart } from "./image_resize.js";

export const FILES_MAX = 10;
const IMAGES_MAX = 4;
/** A start over HTTP has at most 20 MiB, and base64 adds a third. */
const FILES_BYTES = 14_000_000;
const TEXT_BYTES = 200_000;
const SNIFF_BYTES = 8_000;
const TEXT_NAME = /\.(?:csv|tsv|txt|log|md)$/i;

/**
 * Converts a file.
 * @param {File} file
 * @param {object} context
 * @param {(feature: string) => boolean} context.supports whether the selected models have a feature
 * @param {(feature: string) => string[]} context.modelsWith the names of the models that can be used and have it
 * @param {{part: object, bytes: number}[]} context.added what the prompt has already
 * @returns {Promise<{part: object, bytes: number}>}
 * @throws {Error} its message says why the file can't be added, and what to do; it follows the file's name, unless
 *   `isGeneral` is true
 */
export async function toAttachment(file, { supports, modelsWith, added }) {
  if (/^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(file.type)) {
    if (!supports("vision")) throw new Error(`this model doesn't accept images. ${advice("vision", modelsWith)}`);
    if (added.filter(({ part }) => part.kind === "image").length >= IMAGES_MAX) throw Object.assign(new Error(`A prompt can have ${IMAGES_MAX} images. The others were not added.`), { isGeneral: true });
    return { part: await toImagePart(file, IMAGES_MAX), bytes: 0 };
  }
  const used = added.reduce((sum, { bytes }) => sum + bytes, 0);
  if (used + file.size > FILES_BYTES) throw new Error(`it is too large. The files of a prompt can have ${formatBytes(FILES_BYTES)} together. Split it, or paste the part that matters.`);
  const texts = added.filter(({ part }) => part.kind === "text").reduce((sum, { bytes }) => sum + bytes, 0);
  const text = texts + file.size <= TEXT_BYTES ? await readText(file) : null;
  if (text !== null) return { part: toFileText(file.name, text), bytes: file.size };
  if (!supports("files")) {
    const isLongText = file.size > 0 && (await readText(file.slice(0, SNIFF_BYTES))) !== null;
    if (isLongText) throw new Error(`it is too long: the text files of a prompt can have ${formatBytes(TEXT_BYTES)} together. Split it, or paste the part that matters.`);
    if (/^text\//.test(file.type) || TEXT_NAME.test(file.name)) throw new Error("it isn't text in UTF-8. Save it as UTF-8 text, then add it again.");
    throw new Error(`this model takes only text files. ${advice("files", modelsWith)}`);
  }
  const part = { kind: "file", media_type: file.type || "application/octet-stream", data: await read(() => toBase64(file)), name: file.name };
  return { part, bytes: file.size };
}

/** Returns what a file contains if it is text; else null. */
async function readText(file) {
  const bytes = new Uint8Array(await read(() => file.arrayBuffer()));
  const encoding = encodingOf(bytes);
  if (encoding === "utf-8" && bytes.subarray(0, SNIFF_BYTES).includes(0)) return null;
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes, { stream: bytes.length === SNIFF_BYTES });
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

/** Returns the encoding of a text. One in UTF-16, as some programs of Windows write it, begins with a mark. */
function encodingOf([first, second]) {
  if (first === 0xff && second === 0xfe) return "utf-16le";
  return first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
}

async function read(reading) {
  try {
    return await reading();
  } catch {
    throw new Error("it can't be read. A folder can't be added: add the files in it.");
  }
}

function advice(feature, modelsWith) {
  const names = modelsWith(feature);
  return names.length > 0 ? `Choose one that does, such as ${names.slice(0, 2).join(" or ")}.` : "No model of this gateway does.";
}

/** Creates the chip of a file that isn't an image. */
export function createFileChip(name, bytes) {
  return el("span", { class: "file-chip", "data-testid": "file-chip", title: name }, icon("clip"), el("span", { class: "file-name", dir: "auto", text: name }), el("span", { class: "file-size", text: formatBytes(bytes) }));
}

/** Shows that files can be dropped anywhere, while they are dragged over the page. */
export function createDropOverlay() {
  return el("div", { class: "drop-overlay", "data-testid": "drop-overlay", "aria-hidden": "true" }, el("p", {}, icon("clip"), "Drop files to add them to the prompt"));
}
