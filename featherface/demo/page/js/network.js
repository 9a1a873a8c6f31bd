// The network on ONNX Runtime's WebAssembly: planes in, raw outputs out.

import * as ort from "../runtime/ort.wasm.bundle.min.mjs";

// More threads need headers for cross-origin isolation, which a plain static server does not send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("../runtime/ort-wasm-simd-threaded.wasm", import.meta.url).href };

/** A function `(planes, width, height) -> {clsLogits, boxDeltas, landmarkDeltas}` for the model at an address. */
export async function openNetwork(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: the server answers ${response.status}`);
  const session = await ort.InferenceSession.create(new Uint8Array(await response.arrayBuffer()), {
    executionProviders: ["wasm"],
  });
  return async (planes, width, height) => {
    const images = new ort.Tensor("float32", planes, [1, 3, height, width]);
    const outputs = await session.run({ images });
    return {
      clsLogits: outputs.cls_logits.data,
      boxDeltas: outputs.box_deltas.data,
      landmarkDeltas: outputs.landmark_deltas.data,
    };
  };
}
