/** Intersection over union; 0 where an area is zero. */
export function overlap(a, b) {
  const width = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0);
  const height = Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const intersection = width * height;
  return intersection > 0 ? intersection / (area(a) + area(b) - intersection) : 0;
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}
