/**
 * How many tiles fit, and how large. Lengths are CSS pixels.
 */

/** @import { Input, LayerEntry, Size } from "./data.mjs" */

export const GAP = 6; // between tiles
export const LABEL = 16; // the line above a tile
const WIDEST = 170; // of a tile
const NARROWEST = 38;
const SMALLEST_PATCH = 34;
const LARGEST_PATCH = 72;

/** @typedef {{ columns: number, rows: number, tile: number, cell: number, ratio: number }} Grid tiles of width `tile` and height `tile * ratio`, in cells of height `cell` */

/** @param {number} count of tiles @param {number} width @param {number} room the height to fill before scrolling @param {number} ratio height of a map over its width @returns {Grid} */
export function layOutMosaic(count, width, room, ratio) {
  let columns = Math.max(1, Math.min(count, Math.ceil((width + GAP) / (WIDEST + GAP))));
  let grid = gridOf(count, columns, width, ratio);
  while (grid.rows * grid.cell > room && columns < count) {
    columns += 1;
    const next = gridOf(count, columns, width, ratio);
    if (next.tile < NARROWEST) break;
    grid = next;
  }
  return grid;
}

/** @param {number} count @param {number} columns @param {number} width @param {number} ratio @returns {Grid} */
function gridOf(count, columns, width, ratio) {
  const tile = Math.min(WIDEST, (width + GAP) / columns - GAP);
  return { columns, rows: Math.ceil(count / columns), tile, cell: tile * ratio + LABEL + GAP, ratio };
}

/** @param {number} index of a tile @param {Grid} grid @returns {{ left: number, top: number }} where its picture begins, below its label */
export function tilePlace(index, grid) {
  const column = index % grid.columns;
  return { left: column * (grid.tile + GAP), top: Math.floor(index / grid.columns) * grid.cell + LABEL };
}

/** @param {number} left @param {number} top @param {Grid} grid @param {number} count @returns {number} the tile there, or -1 */
export function tileAt(left, top, grid, count) {
  const column = Math.floor(left / (grid.tile + GAP));
  const index = Math.floor(top / grid.cell) * grid.columns + column;
  return column >= 0 && column < grid.columns && index >= 0 && index < count ? index : -1;
}

/** @param {Size} size of a picture @param {number} width @param {number} height the room for it @returns {Size} the largest of its shape */
export function fitInto(size, width, height) {
  const scale = Math.min(width / size.width, height / size.height);
  return { width: Math.round(size.width * scale), height: Math.round(size.height * scale) };
}

/** @param {LayerEntry} layer @param {Input} input @returns {Size} the shape of its maps: lines, and maps over a signal, whose rows are no places, are half as high as wide */
export function shapeOf(layer, input) {
  return layer.axes === 1 || (layer.axes === 2 && input.axes === 1) ? { width: 2, height: 1 } : layer;
}

/** @param {number} count of kernels @param {number} width @returns {{ tile: number, columns: number, dense: boolean }} */
export function layOutKernels(count, width) {
  const dense = count > 4;
  const tile = dense ? Math.min(40, (width + GAP) / 8 - GAP) : Math.min(56, (width + GAP) / Math.min(count, 4) - GAP);
  return { tile, dense, columns: fitColumns(count, tile, GAP, width) };
}

/** @param {number} count of patches @param {number} width @param {number} gap @returns {{ tile: number, columns: number }} in as few rows as leave them large enough to see */
export function layOutPatches(count, width, gap) {
  let columns = Math.max(1, count);
  for (let rows = 1; columns > 1 && (width + gap) / columns - gap < SMALLEST_PATCH; rows++) columns = Math.ceil(count / rows);
  return { columns, tile: Math.floor(Math.max(SMALLEST_PATCH, Math.min(LARGEST_PATCH, (width + gap) / columns - gap))) };
}

/** @param {number} count @param {number} tile @param {number} gap @param {number} width @returns {number} */
function fitColumns(count, tile, gap, width) {
  return Math.max(1, Math.min(count, Math.floor((width + gap) / (tile + gap))));
}
