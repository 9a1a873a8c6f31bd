// From pixels to network input and back, as `letterbox` and `to_network_input` of `featherface/imaging.py`.

import { resize, roundHalfToEven } from "./resize.js";

/**
 * Scale RGBA pixels to a longer side, pad right and bottom to sides that the network takes.
 *
 * Returns BGR planes without the mean, their size, and how many input pixels a source pixel is wide and high.
 */
export function letterbox(image, longSide, { stride_multiple: multiple, mean_bgr: meanBgr }) {
  const scale = longSide / Math.max(image.width, image.height);
  const width = Math.max(1, roundHalfToEven(image.width * scale));
  const height = Math.max(1, roundHalfToEven(image.height * scale));
  const inputWidth = Math.ceil(width / multiple) * multiple;
  const inputHeight = Math.ceil(height / multiple) * multiple;
  const planes = toPlanes(resize(image, width, height), inputWidth, inputHeight, meanBgr);
  return { planes, inputWidth, inputHeight, scaleX: width / image.width, scaleY: height / image.height };
}

function toPlanes({ width, height, data }, inputWidth, inputHeight, meanBgr) {
  const area = inputWidth * inputHeight;
  // The padding has the mean's color: zero here.
  const planes = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    const fromRgb = 2 - channel;
    for (let y = 0; y < height; y++) {
      let source = y * width * 4 + fromRgb;
      let target = channel * area + y * inputWidth;
      for (let x = 0; x < width; x++, source += 4, target++) planes[target] = data[source] - meanBgr[channel];
    }
  }
  return planes;
}

/** Faces in the pixels of the source: boxes cut to it, those on the padding alone left out. */
export function unletterbox(faces, { scaleX, scaleY }, { width, height }) {
  const inside = (value, limit) => Math.min(Math.max(value, 0), limit);
  return faces
    .map(({ box: [left, top, right, bottom], score, landmarks }) => ({
      box: [
        inside(left / scaleX, width),
        inside(top / scaleY, height),
        inside(right / scaleX, width),
        inside(bottom / scaleY, height),
      ],
      score,
      landmarks: landmarks.map(([x, y]) => [x / scaleX, y / scaleY]),
    }))
    .filter(({ box: [left, top, right, bottom] }) => right > left && bottom > top);
}
