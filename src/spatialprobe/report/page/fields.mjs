/**
 * Receptive fields: which box of the input a unit sees.
 */

/** @import { Input, LayerEntry, Size } from "./data.mjs" */
/** @import { Loaded, Unit } from "./values.mjs" */

/**
 * Half-open rows, columns and slices of the input: (y0, x0, y1, x1, z0, z1) inside it, (Y0, X0, Y1, X1, Z0, Z1) with what lies in the padding.
 * @typedef {{ y0: number, x0: number, y1: number, x1: number, z0: number, z1: number, Y0: number, X0: number, Y1: number, X1: number, Z0: number, Z1: number }} Box
 */
/** @typedef {{ top: boolean, bottom: boolean, left: boolean, right: boolean }} Sides */

/** @param {Loaded} loaded @param {number} channel @param {Unit} unit a place in the map that is kept @returns {Box | null} what the unit there sees, null for only padding */
export function boxAt(loaded, channel, { z, y, x }) {
  const { every } = loaded.layer;
  return boxOf(loaded, channel, y * every, x * every, z);
}

/** @param {Pick<Loaded, "layer" | "boxes">} loaded @param {number} channel @param {number} y @param {number} x a unit of the layer @param {number} [z] its slice @returns {Box | null} null: the unit sees only padding */
export function boxOf(loaded, channel, y, x, z = 0) {
  const { layer, boxes } = loaded;
  const which = layer.boxes.of ? layer.boxes.of[channel] : 0;
  const table = boxes[which];
  const [down, across, deep] = layer.boxes.byAxis[which] ? linesOf(table, layer, y, x, z) : sidesOf(table, layer, y, x, z);
  const [y0, y1, Y0, Y1] = Array.from(down);
  const [x0, x1, X0, X1] = Array.from(across);
  const [z0, z1, Z0, Z1] = deep.length ? Array.from(deep) : [0, 1, 0, 1];
  return y1 > y0 && x1 > x0 && z1 > z0 ? { y0, x0, y1, x1, z0, z1, Y0, X0, Y1, X1, Z0, Z1 } : null;
}

/** @param {Int32Array} table of lines @param {LayerEntry} layer @param {number} y @param {number} x @param {number} z @returns {Int32Array[]} along rows, columns and slices, these empty where there are none: both ends, and both without borders */
function linesOf(table, { units: [rows, columns] }, y, x, z) {
  return [y, rows + x, rows + columns + z].map((line) => table.subarray(4 * line, 4 * line + 4));
}

/** @param {Int32Array} table of units @param {LayerEntry} layer @param {number} y @param {number} x @param {number} z @returns {Int32Array[]} the same */
function sidesOf(table, { units: [rows, columns], depth }, y, x, z) {
  const each = table.length / (depth * rows * columns);
  const at = each * ((z * rows + y) * columns + x);
  const box = table.subarray(at, at + each);
  return [Int32Array.of(box[0], box[2], box[4], box[6]), Int32Array.of(box[1], box[3], box[5], box[7]), box.subarray(8)];
}

/** @param {Box} box @param {Size} input @returns {Sides} the sides where the border of the input cuts the field */
export function cutSides(box, input) {
  return { top: box.Y0 < 0, bottom: box.Y1 > input.height, left: box.X0 < 0, right: box.X1 > input.width };
}

/** @param {Box} box @param {Input} input @returns {boolean} */
export function isCut(box, input) {
  return box.Z0 < 0 || box.Z1 > input.depth || Object.values(cutSides(box, input)).includes(true);
}

/** @param {Loaded} loaded @param {number} channel @param {Input} input @returns {(unit: Unit) => boolean} whether a unit's field lies inside the input, or, where none's does, whether the unit lies inside the map */
export function isInside(loaded, channel, input) {
  const { depth, height, width } = loaded.layer;
  const middle = boxAt(loaded, channel, { z: depth >> 1, y: height >> 1, x: width >> 1 });
  if (middle && !isCut(middle, input)) {
    return (unit) => {
      const box = boxAt(loaded, channel, unit);
      return box !== null && !isCut(box, input);
    };
  }
  /** @param {number} at @param {number} count @returns {boolean} */
  const inner = (at, count) => count < 3 || (at > 0 && at < count - 1);
  return ({ z, y, x }) => inner(z, depth) && inner(y, height) && inner(x, width);
}
