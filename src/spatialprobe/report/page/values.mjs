/**
 * A layer's values for one image: what codes stand for, which channels are dead, which unit is strongest.
 */

/** @import { Codes, LayerArrays, LayerEntry, Maps } from "./data.mjs" */

/** @typedef {"" | "dead" | "constant" | "not finite"} Mark */
/** @typedef {"index" | "strength" | "sparsity"} Order */
/**
 * A layer with its arrays and its maps for one image.
 * @typedef {Maps & LayerArrays & { layer: LayerEntry, index: number, image: number, units: number, marks: Mark[], codeBook: Codes }} Loaded
 */

/** @param {LayerEntry} layer @param {number} index @param {number} image @param {LayerArrays} arrays @param {Maps} maps @param {Codes} codeBook @returns {Loaded} */
export function joinLayer(layer, index, image, arrays, maps, codeBook) {
  const units = layer.height * layer.width;
  const marks = Array.from({ length: maps.count }, (_, channel) => markOf(maps, channel, layer.units[0] * layer.units[1]));
  return { ...arrays, ...maps, layer, index, image, units, marks, codeBook };
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

/** @param {Loaded} loaded @param {number} channel @param {number} y @param {number} x @returns {number} */
export function valueAt(loaded, channel, y, x) {
  return decodeValue(loaded, channel, loaded.codes[channel * loaded.units + y * loaded.layer.width + x]);
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
  return all;
}

/** @param {Loaded} loaded @param {number} channel @returns {[number, number]} row and column of the unit with the largest magnitude */
export function findStrongestUnit(loaded, channel) {
  const { codes, units, layer, codeBook } = loaded;
  const below = -loaded.low[channel] > loaded.high[channel];
  let best = 0;
  let most = -1;
  for (let at = 0; at < units; at++) {
    const code = codes[channel * units + at];
    const strength = code === codeBook.nonfinite ? -1 : below ? codeBook.steps - code : code;
    if (strength > most) [best, most] = [at, strength];
  }
  return [Math.floor(best / layer.width), best % layer.width];
}
