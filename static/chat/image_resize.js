/** Makes a picture small enough for the socket: a start is one frame of at most 64 KiB, and base64 costs a third. */

const INPUT_BYTES = 44_000;
const EDGE_PX = 1280;
const EDGE_MIN_PX = 64;
const QUALITY = 0.72;
/** Smaller pictures take more bytes for each pixel, so each try aims a little below what would just fit. */
const AIM = 0.9;

/**
 * @param {File} file
 * @param {number} share how many pictures one prompt may have; each gets that part of the room
 * @returns {Promise<object>} an `image` part
 * @throws where the browser can't read the file as a picture
 */
export async function fittedPicture(file, share) {
  const room = INPUT_BYTES / share;
  const { name } = file;
  if (file.size <= room && /^image\/(png|jpeg|gif|webp)$/.test(file.type)) {
    return { kind: "image", media_type: file.type, data: await base64(file), ...(name && { name }) };
  }
  const bitmap = await createImageBitmap(file);
  try {
    for (let edge = EDGE_PX; edge >= EDGE_MIN_PX; ) {
      const blob = await drawn(bitmap, edge);
      if (blob.size <= room) return { kind: "image", media_type: blob.type, data: await base64(blob), ...(name && { name }) };
      edge = Math.floor(Math.min(edge, Math.max(bitmap.width, bitmap.height)) * Math.sqrt(room / blob.size) * AIM);
    }
  } finally {
    bitmap.close();
  }
  throw new Error("too large");
}

function drawn(bitmap, edge) {
  const scale = Math.min(1, edge / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/jpeg", QUALITY));
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
