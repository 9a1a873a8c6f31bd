// From what the network says of every prior to faces, best first, as `featherface/inference/postprocess.py`.

import { overlap } from "./overlap.js";
import { leastLikely, votedScore } from "./votes.js";

// exp() of a wild network stays finite.
const MAX_LOG_SIDE = 10;

/** Faces `{box: [left, top, right, bottom], score, landmarks: [[x, y] x 5]}` in input pixels. */
export function postprocess(outputs, priors, settings, lowest) {
  const { variances, iou_threshold: iouThreshold, max_faces: maxFaces, votes: rule } = settings;
  const { clsLogits } = outputs;
  const floor = Math.min(lowest, rule.least_voter_score);
  const least = leastLikely(lowest, rule);
  const lowestVoter = Math.max(floor, rule.least_share * least);
  const candidates = [];
  for (let index = 0; index < clsLogits.length / 2; index++) {
    // A softmax over two is the sigmoid of their difference.
    const score = 1 / (1 + Math.exp(clsLogits[2 * index] - clsLogits[2 * index + 1]));
    if (score > lowestVoter) candidates.push(decode(outputs, priors, index, score, variances));
  }
  const sound = candidates.filter(({ box, landmarks }) => [...box, ...landmarks.flat()].every(Number.isFinite));
  sound.sort((a, b) => b.score - a.score);
  const likely = sound.filter(({ score }) => score > Math.max(floor, least));
  return suppress(likely, iouThreshold, Math.max(maxFaces, rule.most_elected))
    .map((face) => ({ ...face, score: votedScore(face, sound, rule) }))
    .filter(({ score }) => score > lowest)
    .sort((a, b) => b.score - a.score)
    .slice(0, maxFaces);
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

/** Of boxes that overlap too much only the first stays, and of those `limit`. */
function suppress(sorted, iouThreshold, limit) {
  const kept = [];
  for (const face of sorted) {
    if (kept.length === limit) break;
    if (kept.every(({ box }) => overlap(box, face.box) <= iouThreshold)) kept.push(face);
  }
  return kept;
}
