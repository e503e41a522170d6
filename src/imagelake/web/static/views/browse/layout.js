// The shape, color and month of every image of a selection, as the server sends them: five bytes an image.

const SHAPES = Float32Array.from({ length: 256 }, (_, value) => 8 ** (value / 127 - 1));

/** {ratios: Float32Array, colors: Uint16Array, months: Int16Array} of n images, from 5 n bytes. */
export function readLayout(buffer) {
  const count = buffer.byteLength / 5;
  const shapes = new Uint8Array(buffer, 4 * count, count);
  const ratios = new Float32Array(count);
  for (let index = 0; index < count; index++) ratios[index] = SHAPES[shapes[index]];
  return { ratios, colors: new Uint16Array(buffer, 0, count), months: new Int16Array(buffer, 2 * count, count) };
}
