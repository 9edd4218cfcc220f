/**
 * Which color a value has: palettes, scales, and tables from codes to colors.
 *
 * A color is one number, as a canvas of 32-bit pixels holds it: alpha, blue, green, red.
 */

/** @import { Payload } from "./data.mjs" */
/** @import { Loaded } from "./values.mjs" */
/** @import { ScaleName } from "./words.mjs" */
import { decodeBase64 } from "./data.mjs";
import { decodeValue, strengthOf } from "./values.mjs";

/** @typedef {{ signed: Uint32Array, plain: Uint32Array, crimson: number }} Palettes */
/** @typedef {{ low: number, high: number, colors: Uint32Array }} Scale */

/** @param {ArrayLike<number>} color red, green, blue @returns {number} */
export function packColor(color) {
  return (0xff000000 | (color[2] << 16) | (color[1] << 8) | color[0]) >>> 0;
}

/** @param {number} color @returns {string} as CSS writes it */
export function cssColor(color) {
  return `rgb(${color & 255},${(color >> 8) & 255},${(color >> 16) & 255})`;
}

/** @param {Payload} payload @returns {Palettes} */
export function unpackPalettes(payload) {
  /** @param {string} text @returns {Uint32Array} */
  const unpack = (text) => {
    const bytes = decodeBase64(text);
    return Uint32Array.from({ length: payload.codes.levels }, (_, level) => packColor(bytes.subarray(3 * level, 3 * level + 3)));
  };
  return { signed: unpack(payload.palettes.signed), plain: unpack(payload.palettes.plain), crimson: packColor(payload.crimson) };
}

/** @param {Loaded} loaded @param {number} channel @param {ScaleName} name @param {Payload} payload @param {Palettes} palettes @returns {Scale} */
export function scaleOf(loaded, channel, name, payload, palettes) {
  let { reach, signed } = loaded.layer;
  if (name === "robust") reach = loaded.layer.robust;
  if (name === "map") reach = strengthOf(loaded, channel) || 1;
  if (name === "all") {
    reach = Math.max(...payload.layers.map((layer) => layer.reach));
    signed = payload.layers.some((layer) => layer.signed);
  }
  return { low: signed ? -reach : 0, high: reach, colors: signed ? palettes.signed : palettes.plain };
}

/** @param {number} value @param {Scale} scale @returns {number} the place of its color in the palette */
export function levelOf(value, scale) {
  const levels = scale.colors.length;
  return Math.min(levels - 1, Math.max(0, Math.floor(((value - scale.low) / (scale.high - scale.low)) * levels)));
}

/** @param {Loaded} loaded @param {number} channel @param {Scale} scale @param {Palettes} palettes @returns {Uint32Array} the color of each code */
export function colorTable(loaded, channel, scale, palettes) {
  const { steps, nonfinite } = loaded.codeBook;
  const table = new Uint32Array(256);
  for (let code = 0; code <= steps; code++) table[code] = scale.colors[levelOf(decodeValue(loaded, channel, code), scale)];
  table[nonfinite] = palettes.crimson;
  return table;
}
