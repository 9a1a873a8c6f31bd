// The page: what is looked at now, and what the controls do to it.

import { openCamera } from "./camera.js";
import { startDetector } from "./detector.js";
import { listenForFiles } from "./intake.js";
import { openPicture, PictureError, readPixels } from "./picture.js";
import { report, say } from "./report.js";
import { encodePicture, showMarks, showPicture } from "./view.js";

const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const threshold = byId("threshold");
const detector = startDetector();

/** What is on the stage: `{picture, found, wholeMs}`. */
let shown = null;
let camera = null;
let facing = "user";
/** Counts what was asked of the camera: one that opens after something newer was asked for is switched off. */
let cameraTurn = 0;
/** Counts what was asked for: an answer that comes when something newer was asked for is thrown away. */
let turn = 0;

const options = () => ({ isBlurred: byId("blur").checked, hasMarks: byId("marks").checked });
const longSide = () => Number(document.querySelector("[name=long-side]:checked").value);
const faces = () => shown.found.faces.filter(({ score }) => score > Number(threshold.value));

function show() {
  byId("threshold-value").textContent = Number(threshold.value).toFixed(2);
  if (!shown) return;
  showPicture(stage, shown.picture, faces(), options());
  report({ faces: faces(), ...shown });
  byId("invitation").hidden = true;
  byId("download").disabled = false;
}

/** Find the faces of a picture and show both; false if something newer came in between. */
async function look(open) {
  const mine = ++turn;
  await detector.ready;
  const started = performance.now();
  const picture = await open();
  const found = await detector.detect(await picture.pixels(), longSide());
  if (mine !== turn) return false;
  if (shown?.picture !== picture) shown?.picture.source.close?.();
  shown = { picture, found, wholeMs: performance.now() - started };
  show();
  return true;
}

/** Do something that takes a while and may fail, and say so. */
async function attempt(work) {
  say(null);
  byId("busy").hidden = false;
  try {
    await work();
  } catch (error) {
    say(error instanceof PictureError ? error.message : `That did not work: ${error.message}`);
  } finally {
    byId("busy").hidden = true;
  }
}

function take(file) {
  stopCamera();
  return attempt(() => look(() => openPicture(file)));
}

async function takeSample() {
  const response = await fetch("sample.jpg");
  if (!response.ok) throw new Error(`sample.jpg: the server answers ${response.status}`);
  await take(new File([await response.blob()], "sample.jpg", { type: "image/jpeg" }));
}

async function startCamera() {
  stopCamera();
  const wanted = cameraTurn;
  const mine = await openCamera(facing);
  if (wanted !== cameraTurn) {
    mine.stop();
    return;
  }
  camera = mine;
  showCameraState();
  byId("busy").hidden = true;
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  if (camera === mine) byId("turn").hidden = cameras.length < 2;
  while (camera === mine) {
    await look(() => openFrame(mine));
    await new Promise(requestAnimationFrame);
  }
}

async function openFrame(from) {
  const source = from.frame();
  const { width, height } = source;
  return { name: "camera.jpg", type: "image/jpeg", source, width, height, pixels: () => readPixels(source) };
}

function stopCamera() {
  cameraTurn += 1;
  camera?.stop();
  camera = null;
  showCameraState();
}

function showCameraState() {
  byId("camera").textContent = camera ? "Stop the camera" : "Camera";
  byId("camera").setAttribute("aria-pressed", String(camera !== null));
  if (!camera) byId("turn").hidden = true;
}

async function download() {
  const { content, suffix } = await encodePicture(shown.picture, faces(), options());
  const link = document.createElement("a");
  const stem = shown.picture.name.replace(/\.[^.]*$/, "");
  link.href = URL.createObjectURL(content);
  link.download = `${stem}-${byId("blur").checked ? "blurred" : "faces"}.${suffix}`;
  link.click();
  // Not at once: some browsers read the content after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function start() {
  byId("late").remove();
  listenForFiles({ input: byId("file"), stage, take });
  for (const id of ["threshold", "marks", "blur"]) byId(id).addEventListener("input", show);
  for (const choice of document.querySelectorAll("[name=long-side]")) {
    choice.addEventListener("change", () => {
      if (shown && !camera) attempt(() => look(async () => shown.picture));
    });
  }
  byId("camera").addEventListener("click", () => (camera ? stopCamera() : attempt(startCamera)));
  byId("turn").addEventListener("click", () => {
    facing = facing === "user" ? "environment" : "user";
    attempt(startCamera);
  });
  byId("sample").addEventListener("click", () => attempt(takeSample));
  byId("download").addEventListener("click", () => attempt(download));
  new ResizeObserver(() => {
    if (shown) showMarks(stage, shown.picture, options().hasMarks ? faces() : []);
  }).observe(stage);

  const settings = await detector.ready;
  threshold.value = settings.score_threshold;
  show();
  byId("terms").textContent = `Network ${settings.architecture}${settings.license && `; ${settings.license}`}.`;
  if (!shown) byId("count").textContent = "Ready";
}

start().catch((error) => {
  byId("count").textContent = "Cannot start";
  say(`The detector cannot start: ${error.message}`);
});
