/** Shrinks images to fit the socket: a start is one frame of at most 64 KiB, and base64 adds a third. */

const INPUT_BYTES = 44_000;
const EDGE_PX = 1280;
const EDGE_MIN_PX = 64;
const JPEG_QUALITY = 0.72;
/** Smaller images take more bytes per pixel, so each attempt aims slightly below the size that would fit exactly. */
const SAFETY_FACTOR = 0.9;

/**
 * Converts a file to an `image` part. A file that is too large, or isn't PNG, JPEG, GIF or WebP, is re-encoded as JPEG.
 * @param {File} file
 * @param {number} imagesMax the maximum number of images in a prompt; each gets an equal share of the frame
 * @returns {Promise<object>}
 * @throws {Error} the browser can't decode the file as an image, or the image is too large at every size
 */
export async function toImagePart(file, imagesMax) {
  const bytesMax = INPUT_BYTES / imagesMax;
  const { name } = file;
  if (file.size <= bytesMax && /^image\/(png|jpeg|gif|webp)$/.test(file.type)) {
    return { kind: "image", media_type: file.type, data: await toBase64(file), ...(name && { name }) };
  }
  const bitmap = await createImageBitmap(file);
  try {
    for (let edge = EDGE_PX; edge >= EDGE_MIN_PX; ) {
      const blob = await drawScaled(bitmap, edge);
      if (blob.size <= bytesMax) return { kind: "image", media_type: blob.type, data: await toBase64(blob), ...(name && { name }) };
      edge = Math.floor(Math.min(edge, Math.max(bitmap.width, bitmap.height)) * Math.sqrt(bytesMax / blob.size) * SAFETY_FACTOR);
    }
  } finally {
    bitmap.close();
  }
  throw new Error("it is too large. Choose a smaller image.");
}

/** Draws an image whose longer edge has at most `edge` pixels. */
function drawScaled(bitmap, edge) {
  const scale = Math.min(1, edge / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("it can't be encoded as JPEG. Choose another image."))), "image/jpeg", JPEG_QUALITY));
}

/** Returns the data of a blob in base64. */
export function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
