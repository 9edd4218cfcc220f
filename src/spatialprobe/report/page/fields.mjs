/**
 * Receptive fields: which box of the input a unit sees.
 */

/** @import { Size } from "./data.mjs" */
/** @import { Loaded } from "./values.mjs" */

/**
 * Half-open rows and columns of the input: (y0, x0, y1, x1) inside it, (Y0, X0, Y1, X1) with what lies in the padding.
 * @typedef {{ y0: number, x0: number, y1: number, x1: number, Y0: number, X0: number, Y1: number, X1: number }} Box
 */
/** @typedef {{ top: boolean, bottom: boolean, left: boolean, right: boolean }} Sides */

/** @param {Loaded} loaded @param {number} channel @param {number} y @param {number} x a place in the map that is kept @returns {Box | null} what the unit there sees, null for only padding */
export function boxAt(loaded, channel, y, x) {
  const { every } = loaded.layer;
  return boxOf(loaded, channel, y * every, x * every);
}

/** @param {Pick<Loaded, "layer" | "boxes">} loaded @param {number} channel @param {number} y @param {number} x a unit of the layer @returns {Box | null} null: the unit sees only padding */
export function boxOf(loaded, channel, y, x) {
  const { layer, boxes } = loaded;
  const which = layer.boxes.of ? layer.boxes.of[channel] : 0;
  const table = boxes[which];
  if (!layer.boxes.byAxis[which]) {
    const at = 8 * (y * layer.units[1] + x);
    const [y0, x0, y1, x1, Y0, X0, Y1, X1] = table.subarray(at, at + 8);
    return y1 > y0 && x1 > x0 ? { y0, x0, y1, x1, Y0, X0, Y1, X1 } : null;
  }
  const [y0, y1, Y0, Y1] = table.subarray(4 * y, 4 * y + 4);
  const [x0, x1, X0, X1] = table.subarray(4 * (layer.units[0] + x), 4 * (layer.units[0] + x) + 4);
  return y1 > y0 && x1 > x0 ? { y0, x0, y1, x1, Y0, X0, Y1, X1 } : null;
}

/** @param {Box} box @param {Size} input @returns {Sides} the sides where the border of the input cuts the field */
export function cutSides(box, input) {
  return { top: box.Y0 < 0, bottom: box.Y1 > input.height, left: box.X0 < 0, right: box.X1 > input.width };
}

/** @param {Box} box @param {Size} input @returns {boolean} */
export function isCut(box, input) {
  return Object.values(cutSides(box, input)).includes(true);
}

/** @param {Loaded} loaded @param {number} channel @param {Size} input @returns {(y: number, x: number) => boolean} whether a unit's field lies inside the input, or, where none's does, whether the unit lies inside the map */
export function isInside(loaded, channel, input) {
  const { height, width } = loaded.layer;
  const middle = boxAt(loaded, channel, height >> 1, width >> 1);
  if (middle && !isCut(middle, input)) {
    return (y, x) => {
      const box = boxAt(loaded, channel, y, x);
      return box !== null && !isCut(box, input);
    };
  }
  return (y, x) => (height < 3 || (y > 0 && y < height - 1)) && (width < 3 || (x > 0 && x < width - 1));
}
