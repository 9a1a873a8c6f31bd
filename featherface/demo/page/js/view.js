// A picture with its faces on canvases: on the page, and as a file.

import { blurFaces } from "./blur.js";
import { drawMarks } from "./drawing.js";

// Enough for any screen; a photograph at its full size would cost a phone its memory.
const SHOWN_LONG_SIDE = 2048;

/** Draw a picture, its longer side at most `limit`, with its faces blurred if `isBlurred`. */
function paint(canvas, picture, faces, { limit, isBlurred }) {
  const scale = Math.min(1, limit / Math.max(picture.width, picture.height));
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: isBlurred });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture.source, 0, 0, canvas.width, canvas.height);
  if (isBlurred) blurFaces(context, faces.map(({ box }) => box.map((value) => value * scale)));
}

/** Show a picture in a stage that has a canvas for it and one for the marks above. */
export function showPicture(stage, picture, faces, { isBlurred, hasMarks }) {
  stage.style.setProperty("--ratio", picture.width / picture.height);
  paint(stage.querySelector(".picture"), picture, faces, { limit: SHOWN_LONG_SIDE, isBlurred });
  showMarks(stage, picture, hasMarks ? faces : []);
}

/** Draw the marks anew, at the resolution of the screen. */
export function showMarks(stage, picture, faces) {
  const canvas = stage.querySelector(".marks");
  const { clientWidth, clientHeight } = canvas;
  canvas.width = Math.round(clientWidth * devicePixelRatio);
  canvas.height = Math.round(clientHeight * devicePixelRatio);
  // Where `object-fit: contain` puts the picture.
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const left = (canvas.width - picture.width * scale) / 2;
  const top = (canvas.height - picture.height * scale) / 2;
  drawMarks(canvas.getContext("2d"), faces, { scale, left, top, line: 2 * devicePixelRatio });
}

/** The picture at its full size as a file's content; notes of the camera, its place say, are not in it. */
export async function encodePicture(picture, faces, { isBlurred, hasMarks }) {
  const canvas = document.createElement("canvas");
  paint(canvas, picture, faces, { limit: Infinity, isBlurred });
  if (hasMarks) {
    const line = Math.max(1, Math.max(picture.width, picture.height) / 450);
    drawMarks(canvas.getContext("2d"), faces, { scale: 1, left: 0, top: 0, line });
  }
  const isLossless = ["image/png", "image/bmp", "image/gif"].includes(picture.type);
  const type = isLossless ? "image/png" : "image/jpeg";
  const content = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
  if (!content) throw new Error("The picture is too large for this browser to write.");
  return { content, suffix: isLossless ? "png" : "jpg" };
}
