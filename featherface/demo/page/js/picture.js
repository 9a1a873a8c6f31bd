// From a file to a picture that can be shown, and to the pixels that the network sees.

const MAX_MEGAPIXELS = 64;
// iOS draws nothing on a canvas of more than 16 megapixels; photographs are read in strips.
const STRIP_ROWS = 512;

/** A file that is no picture; its message is for people. */
export class PictureError extends Error {}

/**
 * Decode a file, turned as its EXIF orientation says, for people: with its color profile applied.
 *
 * Returns `{name, type, source, width, height, pixels}`; `pixels()` are those of the file, for the network.
 */
export async function openPicture(file) {
  const source = await decode(file, {});
  const { width, height } = source;
  if (width * height > MAX_MEGAPIXELS * 1e6) {
    source.close();
    throw new PictureError(`${file.name}: has ${width} × ${height} pixels; up to ${MAX_MEGAPIXELS} megapixels are fine`);
  }
  return { name: file.name, type: file.type, source, width, height, pixels: () => rawPixels(file) };
}

/** Pixels as they are in the file: Python ignores color profiles, in training as well. */
async function rawPixels(file) {
  const raw = await decode(file, { colorSpaceConversion: "none" });
  try {
    return readPixels(raw);
  } finally {
    raw.close();
  }
}

async function decode(file, options) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image", ...options });
  } catch {
    const why = file.size === 0 ? "is empty" : "is no picture that this browser can read, or a broken one";
    throw new PictureError(`${file.name}: ${why}. JPEG, PNG, WebP, GIF and BMP work.`);
  }
}

/** RGBA pixels of anything that can be drawn; transparency is laid on white. */
export function readPixels(source) {
  const { width, height } = source;
  const data = new Uint8ClampedArray(width * height * 4);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = Math.min(height, STRIP_ROWS);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += STRIP_ROWS) {
    const rows = Math.min(STRIP_ROWS, height - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, width, rows);
    context.drawImage(source, 0, -top);
    data.set(context.getImageData(0, 0, width, rows).data, top * width * 4);
  }
  return { width, height, data };
}
