/** Makes a picture small enough for the socket: a start is one frame of at most 64 KiB, and base64 costs a third. */

const INPUT_BYTES = 44_000;
const EDGES_PX = [1280, 960, 768, 512, 384, 256, 160];
const QUALITIES = [0.82, 0.6, 0.42];

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
    for (const edge of EDGES_PX) {
      for (const quality of QUALITIES) {
        const blob = await drawn(bitmap, edge, quality);
        if (blob.size <= room) return { kind: "image", media_type: blob.type, data: await base64(blob), ...(name && { name }) };
      }
    }
  } finally {
    bitmap.close();
  }
  throw new Error("too large");
}

function drawn(bitmap, edge, quality) {
  const scale = Math.min(1, edge / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/jpeg", quality));
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
