// From what the network says of every prior to faces, best first, as `featherface/inference/postprocess.py`.

// exp() of a wild network stays finite.
const MAX_LOG_SIDE = 10;

/** Faces `{box: [left, top, right, bottom], score, landmarks: [[x, y] x 5]}` in input pixels. */
export function postprocess(outputs, priors, { variances, iou_threshold: iouThreshold, max_faces: maxFaces }, lowest) {
  const { clsLogits } = outputs;
  const candidates = [];
  for (let index = 0; index < clsLogits.length / 2; index++) {
    // A softmax over two is the sigmoid of their difference.
    const score = 1 / (1 + Math.exp(clsLogits[2 * index] - clsLogits[2 * index + 1]));
    if (score > lowest) candidates.push(decode(outputs, priors, index, score, variances));
  }
  const sound = candidates.filter(({ box, landmarks }) => [...box, ...landmarks.flat()].every(Number.isFinite));
  sound.sort((a, b) => b.score - a.score);
  return suppress(sound, iouThreshold).slice(0, maxFaces);
}

function decode({ boxDeltas, landmarkDeltas }, priors, index, score, [centerVariance, sizeVariance]) {
  const [priorX, priorY, side] = priors.subarray(3 * index, 3 * index + 3);
  const [dx, dy, dw, dh] = boxDeltas.subarray(4 * index, 4 * index + 4);
  const x = priorX + dx * centerVariance * side;
  const y = priorY + dy * centerVariance * side;
  const halfWidth = (side * Math.exp(Math.min(dw * sizeVariance, MAX_LOG_SIDE))) / 2;
  const halfHeight = (side * Math.exp(Math.min(dh * sizeVariance, MAX_LOG_SIDE))) / 2;
  const points = landmarkDeltas.subarray(10 * index, 10 * index + 10);
  const landmarks = [0, 1, 2, 3, 4].map((point) => [
    priorX + points[2 * point] * centerVariance * side,
    priorY + points[2 * point + 1] * centerVariance * side,
  ]);
  return { box: [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight], score, landmarks };
}

/** Of boxes that overlap too much only the first stays. */
function suppress(sorted, iouThreshold) {
  const kept = [];
  for (const face of sorted) {
    if (kept.every(({ box }) => overlap(box, face.box) <= iouThreshold)) kept.push(face);
  }
  return kept;
}

/** Intersection over union; 0 where an area is zero. */
function overlap(a, b) {
  const width = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0);
  const height = Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const intersection = width * height;
  return intersection > 0 ? intersection / (area(a) + area(b) - intersection) : 0;
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}
