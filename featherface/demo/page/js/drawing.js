// Boxes, landmarks and scores, in the colors of `featherface/inference/drawing.py`.

const BOX = "#26deff";
const INK = "#101828";
// Left eye, right eye, nose, left and right corner of the mouth.
const LANDMARKS = ["#ffd60a", "#ff8a00", "#ffffff", "#ff5c8a", "#d63eff"];

/** Mark faces on a canvas whose picture lies at (`left`, `top`), `scale` canvas pixels a picture pixel. */
export function drawMarks(context, faces, { scale, left, top, line }) {
  const place = ([x, y]) => [left + x * scale, top + y * scale];
  const placed = faces.map(({ box, score, landmarks }) => ({
    corners: [...place(box.slice(0, 2)), ...place(box.slice(2))],
    points: landmarks.map(place),
    score,
  }));
  // Best last: where faces overlap the surer one is on top.
  placed.reverse();
  for (const face of placed) {
    drawBox(context, face.corners, line);
    drawPoints(context, face);
  }
  for (const face of placed) drawScore(context, face, line);
}

function drawBox(context, [left, top, right, bottom], line) {
  const [width, height] = [right - left, bottom - top];
  const side = Math.min(width, height);
  context.beginPath();
  context.roundRect(left, top, width, height, 0.12 * side);
  // Around a small face a dark border would be wider than the face.
  if (side > 24 * line) stroke(context, INK, 2 * line, 0.55);
  stroke(context, BOX, line, 1);
}

function stroke(context, color, width, alpha) {
  context.globalAlpha = alpha;
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
  context.globalAlpha = 1;
}

function drawPoints(context, { corners: [left, top, right, bottom], points }) {
  const radius = 0.022 * Math.min(right - left, bottom - top);
  if (radius < 0.5) return;
  points.forEach((point, index) => {
    fillCircle(context, point, radius + Math.max(1, 0.4 * radius), INK);
    fillCircle(context, point, radius, LANDMARKS[index]);
  });
}

function fillCircle(context, [x, y], radius, color) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = color;
  context.fill();
}

function drawScore(context, { corners: [left, top, right], score }, line) {
  const size = Math.min(7 * line, 0.3 * (right - left));
  // A tag that cannot be read only hides the face.
  if (size < 3.5 * line) return;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const text = score.toFixed(2);
  const width = context.measureText(text).width + 0.8 * size;
  const height = 1.45 * size;
  const x = Math.max(Math.min(left, context.canvas.width - width), 0);
  const y = top >= height ? top - height : Math.max(top, 0);
  context.fillStyle = BOX;
  context.beginPath();
  context.roundRect(x, y, width, height, 0.25 * height);
  context.fill();
  context.fillStyle = INK;
  context.textBaseline = "middle";
  context.fillText(text, x + 0.4 * size, y + 0.54 * height);
}
