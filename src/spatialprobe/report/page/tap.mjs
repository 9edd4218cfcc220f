/**
 * What one weight contributes to a unit: input times weight, and how these products add up.
 */

/** @import { PackedKernels } from "./data.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { valueAt } from "./values.mjs";
import { formatCount, formatNumber } from "./words.mjs";

/** @typedef {{ input: number, row: number, column: number }} Tap one weight of the chosen channel: a place among the kernels that are kept, and its row and column */
/** @typedef {(input: number, y: number, x: number) => number} Values of the input's channels, NaN where the page does not hold one */
/** @typedef {{ value: number, weight: number, kernel: number, shown: number, bias: number, known: boolean }} Parts of a unit's value: of one tap, of its kernel, of all kernels that are kept, and the bias */

/** @param {Loaded} source a captured layer @returns {Values} */
export function valuesOf(source) {
  const { layer } = source;
  return (input, y, x) => {
    const channel = layer.channels ? layer.channels.indexOf(input) : input;
    if (y < 0 || x < 0 || y >= layer.units[0] || x >= layer.units[1]) return 0;
    const every = channel < 0 ? 1 : layer.every * source.steps[channel];
    if (channel < 0 || y % every || x % every) return NaN;
    return valueAt(source, channel, y / layer.every, x / layer.every);
  };
}

/** @param {Uint8ClampedArray} pixels of the input image, four bytes each @param {{ height: number, width: number, low: number, high: number }} input @returns {Values} */
export function valuesOfImage(pixels, { height, width, low, high }) {
  return (input, y, x) => {
    if (y < 0 || x < 0 || y >= height || x >= width) return 0;
    return low + (pixels[4 * (y * width + x) + input] / 255) * (high - low);
  };
}

/** @param {Loaded} loaded @param {PackedKernels} kernels @param {number} channel @param {number} y @param {number} x a unit of the layer @param {Tap} tap @param {Values} values @returns {Parts} */
export function sumTaps(loaded, kernels, channel, y, x, tap, values) {
  const [count, height, width] = kernels.shape;
  const [strideY, strideX, padY, padX, dilationY, dilationX] = kernels.steps ?? [];
  const codes = /** @type {Uint8Array} */ (loaded.kernels);
  const inputs = /** @type {Int32Array} */ (loaded.kernelInputs);
  const middle = loaded.codeBook.steps / 2;
  const reach = /** @type {Float32Array} */ (loaded.kernelReach)[channel] / middle;
  const parts = { value: NaN, weight: NaN, kernel: 0, shown: 0, bias: loaded.kernelBias?.[channel] ?? 0, known: true };
  for (let at = 0; at < count * height * width; at++) {
    const input = Math.floor(at / (height * width));
    const [row, column] = [Math.floor(at / width) % height, at % width];
    const weight = (codes[channel * count * height * width + at] - middle) * reach;
    const value = values(inputs[channel * count + input], y * strideY - padY + row * dilationY, x * strideX - padX + column * dilationX);
    if (Number.isNaN(value)) parts.known = false;
    parts.shown += value * weight;
    if (input === tap.input) parts.kernel += value * weight;
    if (input === tap.input && row === tap.row && column === tap.column) Object.assign(parts, { value, weight });
  }
  return parts;
}

/** @param {Parts} parts @param {Tap} tap @param {number} input the number of the input channel @param {PackedKernels} kernels @param {number} value of the unit @param {boolean} after whether the value is that behind a nonlinearity @returns {string} */
export function describeTap(parts, tap, input, kernels, value, after) {
  const [count, height, width] = kernels.shape;
  const name = `Weight row ${tap.row}, column ${tap.column} over input ${input}`;
  if (Number.isNaN(parts.value)) return `${name}: ${formatNumber(parts.weight, 3)}. This page does not hold the input there.`;
  const words = [`${name}: ${formatNumber(parts.value, 3)} × ${formatNumber(parts.weight, 3)} = ${formatNumber(parts.value * parts.weight, 3)}.`];
  if (!parts.known) return `${words[0]} Of other weights the page does not hold the input.`;
  const sum = parts.shown + parts.bias;
  const others = count < kernels.of;
  const inputs = others ? `the ${count} inputs shown` : formatCount(count, "input");
  words.push(`All ${height * width} of that input: ${formatNumber(parts.kernel, 3)}; ${inputs}: ${formatNumber(parts.shown, 3)}; bias ${formatNumber(parts.bias, 3)}.`);
  if (after && !others) words.push(`Together ${formatNumber(sum, 3)}; ${formatNumber(value, 3)} after what follows, up to the nonlinearity.`);
  else if (!after) words.push(`With ${others ? "the other inputs and " : ""}rounding, ${formatNumber(value - sum, 2)}, the unit's ${formatNumber(value, 3)}.`);
  return words.join(" ");
}
