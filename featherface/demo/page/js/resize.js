// Scales pixels as OpenCV does in `featherface/imaging.py`: averages when shrinking, straight lines when
// enlarging. A canvas would smooth in a way of its own, and the network would see other faces than in Python.

/** The nearest whole number, halves to the even one: Python's `round`. */
export function roundHalfToEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** RGBA pixels of another size; equal sizes are handed back as they are. */
export function resize(image, width, height) {
  if (width === image.width && height === image.height) return image;
  const isShrinking = width <= image.width && height <= image.height;
  const weights = isShrinking ? areaWeights : linearWeights;
  return resample(image, weights(image.width, width), weights(image.height, height));
}

/** What each target pixel takes from which source pixels, when it is the average of those that it covers. */
function areaWeights(sourceSize, targetSize) {
  const scale = sourceSize / targetSize;
  return Array.from({ length: targetSize }, (_, index) => {
    const low = index * scale;
    const high = Math.min(low + scale, sourceSize);
    const first = Math.floor(low);
    const weights = [];
    for (let source = first; source < high; source++) {
      weights.push((Math.min(source + 1, high) - Math.max(source, low)) / (high - low));
    }
    return { first, weights };
  });
}

/** The same on the straight line between the middles of two neighbors; the border goes on outside. */
function linearWeights(sourceSize, targetSize) {
  const scale = sourceSize / targetSize;
  return Array.from({ length: targetSize }, (_, index) => {
    const center = Math.min(Math.max((index + 0.5) * scale - 0.5, 0), sourceSize - 1);
    const first = Math.min(Math.floor(center), Math.max(sourceSize - 2, 0));
    const weights = sourceSize === 1 ? [1] : [1 - (center - first), center - first];
    return { first, weights };
  });
}

function resample(image, columns, rows) {
  const width = columns.length;
  const height = rows.length;
  // A clamped array rounds halves to even, as OpenCV's conversion to bytes does.
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  const narrowRow = makeRowReader(image, columns);
  const sums = new Float32Array(width * 3);
  rows.forEach(({ first, weights }, y) => {
    sums.fill(0);
    weights.forEach((weight, offset) => {
      const row = narrowRow(first + offset);
      for (let index = 0; index < sums.length; index++) sums[index] += weight * row[index];
    });
    for (let x = 0, target = y * width * 4; x < width; x++, target += 4) {
      data[target] = sums[3 * x];
      data[target + 1] = sums[3 * x + 1];
      data[target + 2] = sums[3 * x + 2];
    }
  });
  return { width, height, data };
}

/** A function from the number of a row to its RGB values at the new width; neighbors share the last two. */
function makeRowReader(image, columns) {
  const flat = flatten(columns);
  const kept = [0, 1].map(() => ({ y: -1, values: new Float32Array(columns.length * 3) }));
  return (y) => {
    const found = kept.find((row) => row.y === y);
    if (found) return found.values;
    const [oldest] = kept;
    kept.reverse();
    oldest.y = y;
    narrow(image, y, flat, oldest.values);
    return oldest.values;
  };
}

/** Typed arrays instead of objects: the loop over all pixels of a photograph takes a third of the time. */
function flatten(columns) {
  return {
    firsts: Int32Array.from(columns, ({ first }) => first),
    counts: Int32Array.from(columns, ({ weights }) => weights.length),
    weights: Float32Array.from(columns.flatMap(({ weights }) => weights)),
  };
}

function narrow(image, y, { firsts, counts, weights }, values) {
  const { data } = image;
  const start = y * image.width * 4;
  for (let x = 0, next = 0; x < firsts.length; x++) {
    let red = 0;
    let green = 0;
    let blue = 0;
    let source = start + firsts[x] * 4;
    for (let end = next + counts[x]; next < end; next++, source += 4) {
      const weight = weights[next];
      red += weight * data[source];
      green += weight * data[source + 1];
      blue += weight * data[source + 2];
    }
    values[3 * x] = red;
    values[3 * x + 1] = green;
    values[3 * x + 2] = blue;
  }
}
