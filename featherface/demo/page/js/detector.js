// The page's side of the detector's thread.

// Started from a blob, a worker inherits the page's Content-Security-Policy: it, too, can reach nothing but this
// folder. Started from a file it would obey the server's headers only, and a static server sends none.
function startWorker() {
  const module = new URL("worker.js", import.meta.url).href;
  const source = new Blob([`import ${JSON.stringify(module)};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(source), { type: "module" });
}

/** Start the detector: `ready` is a promise of the model's settings, `detect` finds faces in RGBA pixels. */
export function startDetector() {
  const worker = startWorker();
  const waiting = new Map();
  let broken = null;
  const expect = (id) =>
    new Promise((resolve, reject) => {
      if (broken) reject(broken);
      else waiting.set(id, { resolve, reject });
    });
  worker.addEventListener("message", ({ data: { id, result, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  });
  worker.addEventListener("error", (event) => {
    const unknown = "its files cannot be loaded, or this browser is too old for module workers";
    broken = new Error(event.message || unknown);
    for (const { reject } of waiting.values()) reject(broken);
    waiting.clear();
  });
  let nextId = 0;
  return {
    ready: expect("ready"),
    /** Faces of `{width, height, data}`; the pixels are handed over and gone afterwards. */
    detect(image, longSide) {
      const id = nextId++;
      const answer = expect(id);
      worker.postMessage({ id, image, longSide }, [image.data.buffer]);
      return answer;
    },
  };
}
