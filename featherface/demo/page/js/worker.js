// The detector on a thread of its own, so that the page stays smooth. A message is one picture; so is an answer.

import { letterbox, unletterbox } from "./letterbox.js";
import { openNetwork } from "./network.js";
import { postprocess } from "./postprocess.js";
import { makePriors } from "./priors.js";

// Faces below the page's slider are found as well: they change nothing about those above it, so hiding them
// afterwards is the same as never having had them, and the slider needs no network.
const LOWEST_SCORE = 0.1;

const WARM_UP_SIDE = 320;

const opening = open();
let last = opening;

async function open() {
  const response = await fetch(new URL("../model.json", import.meta.url));
  if (!response.ok) throw new Error(`model.json: the server answers ${response.status}`);
  const settings = await response.json();
  const run = await openNetwork(new URL("../model.onnx", import.meta.url));
  // Browsers translate WebAssembly better while it runs: the first picture should not wait for that.
  await run(new Float32Array(3 * WARM_UP_SIDE ** 2), WARM_UP_SIDE, WARM_UP_SIDE);
  return { settings, run };
}

async function detect({ image, longSide }) {
  const { settings, run } = await opening;
  const boxed = letterbox(image, longSide, settings);
  const started = performance.now();
  const outputs = await run(boxed.planes, boxed.inputWidth, boxed.inputHeight);
  const networkMs = performance.now() - started;
  const priors = makePriors(boxed.inputWidth, boxed.inputHeight, settings.strides, settings.min_sizes_px);
  const found = postprocess(outputs, priors, settings, LOWEST_SCORE);
  const { inputWidth, inputHeight } = boxed;
  return { faces: unletterbox(found, boxed, image), networkMs, inputWidth, inputHeight };
}

async function answer(id, work) {
  try {
    self.postMessage({ id, result: await work() });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
}

self.addEventListener("message", ({ data }) => {
  // One after the other: a session runs one input at a time.
  last = last.catch(() => {}).then(() => answer(data.id, () => detect(data)));
});
answer("ready", async () => (await opening).settings);
