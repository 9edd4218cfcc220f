/**
 * A layer's values for one image: what codes stand for, which channels are dead, which unit is strongest.
 */

/** @import { Codes, LayerArrays, LayerEntry, Maps } from "./data.mjs" */

const SHADES = 12; // on each side of zero

/** @typedef {"" | "dead" | "constant" | "not finite"} Mark */
/** @typedef {"index" | "strength" | "sparsity" | "contribution" | "change"} Order */
/**
 * A layer with its arrays and its maps for one image.
 * @typedef {Maps & LayerArrays & { layer: LayerEntry, index: number, image: number, units: number, marks: Mark[], codeBook: Codes, changes?: Float64Array, beyond?: number, richest?: number, counts?: Uint32Array }} Loaded
 */

/** @param {LayerEntry} layer @param {number} index @param {number} image @param {LayerArrays} arrays @param {Maps} maps @param {Codes} codeBook @returns {Loaded} */
export function joinLayer(layer, index, image, arrays, maps, codeBook) {
  const units = layer.depth * layer.height * layer.width;
  const count = layer.kind === "difference" ? 1 : layer.depth * layer.units[0] * layer.units[1]; // what did not change is no dead channel
  const marks = Array.from({ length: maps.count }, (_, channel) => markOf(maps, channel, count));
  /** @param {Float32Array | undefined} all @returns {Float32Array | undefined} this image's */
  const mine = (all) => all?.subarray(image * maps.count, (image + 1) * maps.count);
  const [contributions, ablated] = [mine(arrays.contributions), mine(arrays.ablated)];
  return { ...arrays, ...maps, layer, index, image, units, marks, codeBook, contributions, ablated };
}

/** @param {Maps} maps @param {number} channel @param {number} units that the layer has @returns {Mark} */
export function markOf(maps, channel, units) {
  if (maps.nonfinite[channel]) return "not finite";
  if (maps.low[channel] !== maps.high[channel] || units === 1) return "";
  return maps.low[channel] === 0 ? "dead" : "constant";
}

/** @param {Loaded} loaded @param {number} channel a place among the channels kept @returns {number} the channel's number in the model */
export function numberOf(loaded, channel) {
  return loaded.layer.channels ? loaded.layer.channels[channel] : channel;
}

/** @param {Loaded} loaded @param {number} channel @param {number} code @returns {number} what a code of this channel stands for */
export function decodeValue(loaded, channel, code) {
  if (code === loaded.codeBook.nonfinite) return NaN;
  const share = code / loaded.codeBook.steps;
  return loaded.low[channel] * (1 - share) + loaded.high[channel] * share;
}

/** @typedef {{ z: number, y: number, x: number }} Unit slice, row and column of a unit; the first is 0 in a map, and so is the second in a line */

/** @param {Loaded} loaded @param {number} channel @param {number} y @param {number} x @param {number} [z] @returns {number} */
export function valueAt(loaded, channel, y, x, z = 0) {
  const { height, width } = loaded.layer;
  return decodeValue(loaded, channel, loaded.codes[channel * loaded.units + (z * height + y) * width + x]);
}

/** @param {Loaded} loaded @param {number} channel @param {Unit} unit @returns {Unit} the unit at or before it whose value the page holds */
export function keptUnit(loaded, channel, { z, y, x }) {
  const step = loaded.steps[channel];
  return { z, y: y - (y % step), x: x - (x % step) };
}

/** @param {Loaded} loaded @param {number} channel @returns {number} the difference between two neighboring codes */
export function stepOf(loaded, channel) {
  return (loaded.high[channel] - loaded.low[channel]) / loaded.codeBook.steps;
}

/** @param {Loaded} loaded @param {number} channel @returns {number} the largest magnitude in the channel's map */
export function strengthOf(loaded, channel) {
  return Math.max(Math.abs(loaded.low[channel]), Math.abs(loaded.high[channel])) || 0;
}

/** @param {Loaded} loaded @param {Order} order @returns {number[]} the channels in this order */
export function orderChannels(loaded, order) {
  const all = Array.from({ length: loaded.count }, (_, channel) => channel);
  if (order === "strength") all.sort((a, b) => strengthOf(loaded, b) - strengthOf(loaded, a) || a - b);
  if (order === "sparsity") all.sort((a, b) => loaded.silent[b] - loaded.silent[a] || a - b);
  const { contributions, changes } = loaded;
  if (order === "change" && changes) all.sort((a, b) => changes[b] - changes[a] || a - b);
  if (order === "contribution" && contributions) all.sort((a, b) => contributions[b] - contributions[a] || a - b);
  return all;
}

/** @param {Loaded} loaded @param {Order} order @returns {number} the channel to begin with: the first in the order of contributions, else the one with the most to see */
export function findFirstChannel(loaded, order) {
  const ranked = (order === "contribution" && loaded.contributions) || (order === "change" && loaded.changes);
  return ranked ? orderChannels(loaded, order)[0] : findRichestChannel(loaded);
}

/** @param {Loaded} loaded @param {number} channel @param {(unit: Unit) => boolean} [isInside] which units count, where any is finite @returns {Unit} the one with the largest magnitude */
export function findStrongestUnit(loaded, channel, isInside = () => true) {
  const { codes, units, layer, codeBook } = loaded;
  const below = -loaded.low[channel] > loaded.high[channel];
  const best = [0, 0];
  const most = [-1, -1]; // among all, and among those that count
  for (let at = 0; at < units; at++) {
    const code = codes[channel * units + at];
    const strength = code === codeBook.nonfinite ? -1 : below ? codeBook.steps - code : code;
    if (strength > most[0]) [best[0], most[0]] = [at, strength];
    if (strength > most[1] && isInside(unitOf(at, layer))) [best[1], most[1]] = [at, strength];
  }
  return unitOf(most[1] < 0 ? best[0] : best[1], layer);
}

/** @param {number} at @param {{ height: number, width: number }} layer @returns {Unit} */
function unitOf(at, { height, width }) {
  const row = Math.floor(at / width);
  return { z: Math.floor(row / height), y: row % height, x: at % width };
}

/** @param {Loaded} loaded @returns {Uint32Array} (C, 256) how many units of each channel have each code */
function countCodes(loaded) {
  if (loaded.counts) return loaded.counts;
  const counts = new Uint32Array(256 * loaded.count);
  const { codes, units } = loaded;
  for (let channel = 0, at = 0; channel < loaded.count; channel++) {
    for (const end = at + units; at < end; at++) counts[256 * channel + codes[at]]++;
  }
  return (loaded.counts = counts);
}

/** @param {Loaded} loaded @returns {number} the channel whose map, in the layer's colors, has the most bits to a unit; the first of equal ones */
export function findRichestChannel(loaded) {
  if (loaded.richest !== undefined) return loaded.richest;
  let best = Math.max(0, loaded.marks.indexOf(""));
  let most = 0;
  for (let channel = 0; channel < loaded.count; channel++) {
    const bits = loaded.marks[channel] ? 0 : entropyOf(loaded, channel);
    if (bits > most + 1e-9) [best, most] = [channel, bits];
  }
  return (loaded.richest = best);
}

/** @param {Loaded} loaded @param {number} channel @returns {number} the entropy in bits of the map's values, sorted into the shades that the layer's scale tells apart */
export function entropyOf(loaded, channel) {
  const counts = countCodes(loaded);
  const shades = new Float64Array(2 * SHADES + 1);
  for (let code = 0; code <= loaded.codeBook.steps; code++) {
    const count = counts[256 * channel + code];
    if (!count) continue;
    const share = Math.max(-1, Math.min(1, decodeValue(loaded, channel, code) / loaded.layer.robust)) || 0;
    shades[SHADES + Math.round(share * SHADES)] += count / loaded.units;
  }
  return shades.reduce((bits, share) => (share ? bits - share * Math.log2(share) : bits), 0);
}

/** @param {Loaded} loaded @param {number} reach @returns {number} the share of the finite values whose magnitude is larger */
export function shareBeyond(loaded, reach) {
  const counts = countCodes(loaded);
  let [beyond, finite] = [0, 0];
  for (let channel = 0; channel < loaded.count; channel++) {
    finite += loaded.units - counts[256 * channel + loaded.codeBook.nonfinite];
    if (strengthOf(loaded, channel) <= reach) continue;
    for (let code = 0; code <= loaded.codeBook.steps; code++) {
      if (Math.abs(decodeValue(loaded, channel, code)) > reach) beyond += counts[256 * channel + code];
    }
  }
  return finite ? beyond / finite : 0;
}
