// The camera as a row of still frames.

/** Why there is no camera, in words for people. */
function explain(error) {
  if (error.name === "NotAllowedError") return "The camera was not allowed. The browser's settings of this page change that.";
  if (error.name === "NotFoundError") return "There is no camera on this device.";
  if (error.name === "NotReadableError") return "Another program uses the camera.";
  return `The camera cannot be used: ${error.message}`;
}

/**
 * Switch the camera on; `facing` is "user" or "environment".
 *
 * Returns `{frame, stop}`: a canvas with what it sees now, as a mirror if it looks at the user.
 */
export async function openCamera(facing) {
  if (!navigator.mediaDevices) throw new Error("The camera needs https, or this page on localhost.");
  const wish = { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 } };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
  } catch (error) {
    throw new Error(explain(error));
  }
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  const stop = () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
  try {
    await video.play();
  } catch (error) {
    stop();
    throw new Error(explain(error));
  }
  return { frame: () => grab(video, facing === "user"), stop };
}

function grab(video, isMirrored) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (isMirrored) context.setTransform(-1, 0, 0, 1, canvas.width, 0);
  context.drawImage(video, 0, 0);
  return canvas;
}
