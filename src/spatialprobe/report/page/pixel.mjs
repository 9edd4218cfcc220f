/**
 * A pixel of the input: which units of every layer see it, and which channels respond most there.
 */

/** @import { LayerArrays, LayerEntry } from "./data.mjs" */
/** @import { Box } from "./fields.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { boxAt, boxOf } from "./fields.mjs";
import { valueAt } from "./values.mjs";

/** @typedef {{ z: number, y: number, x: number }} Pixel of the input */
/** @typedef {{ z0: number, y0: number, x0: number, z1: number, y1: number, x1: number }} Region half-open slices, rows and columns of units */
/** @typedef {{ channel: number, value: number, z: number, y: number, x: number }} Response of a channel's strongest unit, at a place in the map that is kept */

/** @param {Box | null} box @param {Pixel} pixel @returns {boolean} */
export function sees(box, pixel) {
  if (!box || pixel.z < box.z0 || pixel.z >= box.z1) return false;
  return box.y0 <= pixel.y && pixel.y < box.y1 && box.x0 <= pixel.x && pixel.x < box.x1;
}

/** @param {LayerEntry} layer @param {LayerArrays} arrays @param {number} channel @param {Pixel} pixel @returns {Region | null} the smallest box around the units that see the pixel */
export function findRegion(layer, arrays, channel, pixel) {
  const which = layer.boxes.of ? layer.boxes.of[channel] : 0;
  if (layer.boxes.byAxis[which]) return regionByAxis(arrays.boxes[which], layer, pixel);
  const [rows, columns] = layer.units;
  /** @type {Region | null} */
  let found = null;
  for (let at = 0; at < layer.depth * rows * columns; at++) {
    const [z, y, x] = [Math.floor(at / columns / rows), Math.floor(at / columns) % rows, at % columns];
    if (!sees(boxOf({ layer, boxes: arrays.boxes }, channel, y, x, z), pixel)) continue;
    found ??= { z0: z, y0: y, x0: x, z1: z + 1, y1: y + 1, x1: x + 1 };
    const { y0, x0, y1, x1 } = found;
    Object.assign(found, { z1: z + 1, y0: Math.min(y0, y), x0: Math.min(x0, x), y1: Math.max(y1, y + 1), x1: Math.max(x1, x + 1) });
  }
  return found;
}

/** @param {Int32Array} table @param {LayerEntry} layer @param {Pixel} pixel @returns {Region | null} */
function regionByAxis(table, { units: [rows, columns], depth }, pixel) {
  /** @param {number} from @param {number} count @param {number} at @returns {number[]} the lines that see the pixel */
  const linesThatSee = (from, count, at) =>
    Array.from({ length: count }, (_, line) => line).filter((line) => table[4 * (from + line)] <= at && at < table[4 * (from + line) + 1]);
  const [y, x] = [linesThatSee(0, rows, pixel.y), linesThatSee(rows, columns, pixel.x)];
  const z = table.length > 4 * (rows + columns) ? linesThatSee(rows + columns, depth, pixel.z) : [0];
  const [z0, y0, x0, z1, y1, x1] = [z[0], y[0], x[0], z.length, y.length, x.length];
  return z1 && y1 && x1 ? { z0, y0, x0, z1: z[z1 - 1] + 1, y1: y[y1 - 1] + 1, x1: x[x1 - 1] + 1 } : null;
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
  /** @param {number} z @param {number} y @param {number} x */
  const compare = (z, y, x) => {
    const value = valueAt(loaded, channel, y, x, z);
    if (Number.isNaN(value) || (best && Math.abs(value) <= Math.abs(best.value))) return;
    if (sees(boxAt(loaded, channel, { z, y, x }), pixel)) best = { channel, value, z, y, x };
  };
  const stride = every * step;
  for (let z = region.z0; z < region.z1; z++) {
    for (let y = Math.ceil(region.y0 / stride) * step; y < region.y1 / every; y += step) {
      for (let x = Math.ceil(region.x0 / stride) * step; x < region.x1 / every; x += step) compare(z, y, x);
    }
  }
  return best;
}
