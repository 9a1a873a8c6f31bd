// Pixels as averages of those that they cover: OpenCV's INTER_AREA.

/** RGBA pixels of a smaller size. */
export function shrink(image, width, height) {
  const columns = coverage(image.width, width);
  const rows = coverage(image.height, height);
  // A clamped array rounds halves to even, as OpenCV does, but for exact halves of a size: there they go up.
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  const nudge = 2 * width === image.width && 2 * height === image.height ? 0.125 : 0;
  const readRow = makeRowReader(image, columns);
  const sums = new Float32Array(width * 3);
  for (let y = 0, next = 0; y < height; y++) {
    sums.fill(nudge);
    for (let offset = 0; offset < rows.counts[y]; offset++, next++) {
      const row = readRow(rows.firsts[y] + offset);
      const weight = rows.weights[next];
      for (let index = 0; index < sums.length; index++) sums[index] += weight * row[index];
    }
    for (let x = 0, target = y * width * 4; x < width; x++, target += 4) {
      data[target] = sums[3 * x];
      data[target + 1] = sums[3 * x + 1];
      data[target + 2] = sums[3 * x + 2];
    }
  }
  return { width, height, data };
}

/** For each target pixel the first source pixel that it covers, how many, and the share of each, in a row. */
function coverage(sourceSize, targetSize) {
  const scale = sourceSize / targetSize;
  const firsts = new Int32Array(targetSize);
  const counts = new Int32Array(targetSize);
  const weights = [];
  for (let index = 0; index < targetSize; index++) {
    const low = index * scale;
    const high = Math.min(low + scale, sourceSize);
    firsts[index] = Math.floor(low);
    for (let source = firsts[index]; source < high; source++) {
      weights.push((Math.min(source + 1, high) - Math.max(source, low)) / (high - low));
      counts[index]++;
    }
  }
  return { firsts, counts, weights: Float32Array.from(weights) };
}

/** A function from the number of a source row to its RGB values at the new width; the last one is kept. */
function makeRowReader(image, columns) {
  const values = new Float32Array(columns.firsts.length * 3);
  let kept = -1;
  return (y) => {
    // Two target rows share the source row between them.
    if (y !== kept) narrow(image, y, columns, values);
    kept = y;
    return values;
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
