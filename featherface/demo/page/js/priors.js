// Prior boxes of an input size, as `featherface/models/priors.py`: by level, row, column, size.

/** Center x, center y and side of every prior, three numbers each, in input pixels. */
export function makePriors(width, height, strides, minSizes) {
  const priors = [];
  strides.forEach((stride, level) => {
    for (let row = 0; row * stride < height; row++) {
      for (let column = 0; column * stride < width; column++) {
        for (const side of minSizes[level]) priors.push((column + 0.5) * stride, (row + 0.5) * stride, side);
      }
    }
  });
  return Float32Array.from(priors);
}
