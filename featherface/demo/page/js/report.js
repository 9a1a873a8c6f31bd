// What the page says about a picture's faces, in words and numbers.

const byId = (id) => document.getElementById(id);

/** How many faces are shown, and how long finding them took. */
export function report({ faces, found, wholeMs, picture }) {
  const count = `${faces.length || "No"} face${faces.length === 1 ? "" : "s"}`;
  // Written only when it changes: a screen reader would read each frame of the camera aloud.
  if (byId("count").textContent !== count) byId("count").textContent = count;
  document.querySelector(".picture").setAttribute("aria-label", `${picture.name}: ${count}`);
  byId("network-ms").textContent = `${found.networkMs.toFixed(0)} ms`;
  byId("whole-ms").textContent = `${wholeMs.toFixed(0)} ms`;
  byId("input-size").textContent = `${found.inputWidth} × ${found.inputHeight} px`;
  byId("timing").hidden = false;
  byId("numbers").textContent = asJson(picture, faces);
}

/** What `featherface detect --json` prints, a line a face. */
function asJson({ name, width, height }, faces) {
  const round = (value, digits) => Number(value.toFixed(digits));
  const lines = faces.map(({ box, score, landmarks }) =>
    JSON.stringify({
      box_xyxy: box.map((value) => round(value, 2)),
      score: round(score, 6),
      landmarks: landmarks.map((point) => point.map((value) => round(value, 2))),
    }),
  );
  const head = JSON.stringify({ image: name, width, height }).slice(0, -1);
  return `${head},"faces":[\n${lines.join(",\n")}\n]}`;
}

/** A message for the user, or none. */
export function say(text) {
  byId("message").textContent = text ?? "";
  byId("message").hidden = !text;
}
