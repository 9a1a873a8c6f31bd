// Scales pixels as OpenCV does in `featherface/imaging.py`: averages when shrinking, straight lines when
// enlarging. A canvas would smooth in a way of its own, and the network would see other faces than in Python.

import { enlarge } from "./enlarge.js";
import { shrink } from "./shrink.js";

/** The nearest whole number, halves to the even one: Python's `round`. */
export function roundHalfToEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** RGBA pixels of another size, without transparency; equal sizes are handed back as they are. */
export function resize(image, width, height) {
  if (width === image.width && height === image.height) return image;
  const isShrinking = width <= image.width && height <= image.height;
  return isShrinking ? shrink(image, width, height) : enlarge(image, width, height);
}
