// Faces that nobody can recognize, as `blur_faces` of `featherface/inference/pieces.py`.

import { resize } from "./resize.js";

// However large a face is, six patches in each direction are left of it: too few to tell who it is.
const PATCHES = 6;
// Hair and ears give people away as well.
const MARGIN = 0.15;

/** Blur boxes on a canvas, in its pixels; what is gone cannot be computed back. */
export function blurFaces(context, boxes) {
  for (const box of boxes) {
    const [left, top, width, height] = wholePixels(box, context.canvas);
    const face = context.getImageData(left, top, width, height);
    const blurred = resize(resize(face, PATCHES, PATCHES), width, height);
    context.putImageData(new ImageData(blurred.data, width, height), left, top);
  }
}

/** Left, top, width and height of the pixels that a box with its margin touches; one at least. */
function wholePixels([left, top, right, bottom], canvas) {
  const [padX, padY] = [MARGIN * (right - left), MARGIN * (bottom - top)];
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);
  const x0 = clip(Math.floor(left - padX), 0, canvas.width - 1);
  const y0 = clip(Math.floor(top - padY), 0, canvas.height - 1);
  const x1 = clip(Math.ceil(right + padX), x0 + 1, canvas.width);
  const y1 = clip(Math.ceil(bottom + padY), y0 + 1, canvas.height);
  return [x0, y0, x1 - x0, y1 - y0];
}
