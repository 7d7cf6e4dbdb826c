/** The view of an image: the image itself, or a link to one on another host. */

import { authorizationHeader, getCredential } from "../shared/credential.js";
import { el, icon } from "../shared/dom.js";

/** The path of an image that the gateway stores. */
const STORED_PART = /^\/v1\/messages\/[\w-]+\/parts\/\d+(\?turn=[\w.-]+)?$/;

/**
 * Creates the view of an image part. Only inline images and those that the gateway stores are loaded: another host
 * would learn who reads the message.
 */
export function createImage({ data, media_type, url, name }) {
  const alt = name ?? "Image";
  const isStored = STORED_PART.test(url ?? "");
  if ((data || isStored) && /^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(media_type)) {
    const image = el("img", { class: "image", alt });
    image.addEventListener("error", () => image.replaceWith(createImageLink(alt, null)));
    // A relative URL, without the leading slash, works under a path prefix.
    if (isStored) void loadImage(image, url.slice(1), media_type);
    else image.src = `data:${media_type};base64,${data}`;
    return image;
  }
  return createImageLink(alt, /^https:\/\//i.test(url ?? "") ? url : null);
}

/** Loads a stored image. An `img` element can't send a credential, so a signed-in user's image is fetched with a header. */
async function loadImage(image, url, media_type) {
  if (!getCredential()) {
    image.src = url;
    return;
  }
  try {
    const response = await fetch(url, { headers: authorizationHeader() });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const blob = URL.createObjectURL(new Blob([await response.arrayBuffer()], { type: media_type }));
    image.addEventListener("load", () => URL.revokeObjectURL(blob), { once: true });
    image.src = blob;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

/** Creates a placeholder for an image that isn't loaded: a link, or its name if `url` is null. */
function createImageLink(alt, url) {
  const content = url ? el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", text: alt }) : el("span", { text: alt });
  return el("p", { class: "image-link" }, icon("image"), content);
}
