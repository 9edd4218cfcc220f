/**
 * A pixel of the input: which units of every layer see it, and which channels respond most there.
 */

/** @import { LayerArrays, LayerEntry } from "./data.mjs" */
/** @import { Box } from "./fields.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { boxOf } from "./fields.mjs";
import { valueAt } from "./values.mjs";

/** @typedef {{ y: number, x: number }} Pixel of the input */
/** @typedef {{ y0: number, x0: number, y1: number, x1: number }} Region half-open rows and columns of units */
/** @typedef {{ channel: number, value: number, y: number, x: number }} Response of a channel's strongest unit, at a place in the map that is kept */

/** @param {Box | null} box @param {Pixel} pixel @returns {boolean} */
export function sees(box, pixel) {
  return box !== null && box.y0 <= pixel.y && pixel.y < box.y1 && box.x0 <= pixel.x && pixel.x < box.x1;
}

/** @param {LayerEntry} layer @param {LayerArrays} arrays @param {number} channel @param {Pixel} pixel @returns {Region | null} the smallest box around the units that see the pixel */
export function findRegion(layer, arrays, channel, pixel) {
  const [rows, columns] = layer.units;
  const which = layer.boxes.of ? layer.boxes.of[channel] : 0;
  if (layer.boxes.byAxis[which]) return regionByAxis(arrays.boxes[which], rows, columns, pixel);
  /** @type {Region | null} */
  let found = null;
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      if (!sees(boxOf({ layer, boxes: arrays.boxes }, channel, y, x), pixel)) continue;
      found = found
        ? { y0: found.y0, x0: Math.min(found.x0, x), y1: y + 1, x1: Math.max(found.x1, x + 1) }
        : { y0: y, x0: x, y1: y + 1, x1: x + 1 };
    }
  }
  return found;
}

/** @param {Int32Array} table @param {number} rows @param {number} columns @param {Pixel} pixel @returns {Region | null} */
function regionByAxis(table, rows, columns, pixel) {
  /** @param {number} from @param {number} count @param {number} at @returns {number[]} the lines that see the pixel */
  const linesThatSee = (from, count, at) =>
    Array.from({ length: count }, (_, line) => line).filter((line) => table[4 * (from + line)] <= at && at < table[4 * (from + line) + 1]);
  const [y, x] = [linesThatSee(0, rows, pixel.y), linesThatSee(rows, columns, pixel.x)];
  return y.length && x.length ? { y0: y[0], x0: x[0], y1: y[y.length - 1] + 1, x1: x[x.length - 1] + 1 } : null;
}

/** @param {Loaded} loaded @param {Pixel} pixel @param {number} most @returns {Response[]} the channels with the largest magnitudes among units that see the pixel, the largest first */
export function findResponses(loaded, pixel, most) {
  /** @type {Response[]} */
  const found = [];
  for (let channel = 0; channel < loaded.count; channel++) {
    const best = strongestThatSees(loaded, channel, pixel);
    if (best) found.push(best);
  }
  return found.sort((a, b) => Math.abs(b.value) - Math.abs(a.value) || a.channel - b.channel).slice(0, most);
}

/** @param {Loaded} loaded @param {number} channel @param {Pixel} pixel @returns {Response | null} */
function strongestThatSees(loaded, channel, pixel) {
  const { every } = loaded.layer;
  const step = loaded.steps[channel];
  const region = findRegion(loaded.layer, loaded, channel, pixel);
  if (!region) return null;
  /** @type {Response | null} */
  let best = null;
  for (let y = Math.ceil(region.y0 / every); y < region.y1 / every; y++) {
    for (let x = Math.ceil(region.x0 / every); x < region.x1 / every; x++) {
      if (y % step || x % step) continue;
      const value = valueAt(loaded, channel, y, x);
      if (Number.isNaN(value) || (best && Math.abs(value) <= Math.abs(best.value))) continue;
      if (sees(boxOf(loaded, channel, y * every, x * every), pixel)) best = { channel, value, y, x };
    }
  }
  return best;
}
