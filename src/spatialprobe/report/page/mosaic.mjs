/**
 * The mosaic: every channel's map under its number, and a frame around the chosen one.
 */

/** @import { App } from "./app.mjs" */
import { canvasOf, element, hatch, isShrunk, paintMaps, resizeCanvas, styleOf } from "./drawing.mjs";
import { GAP, LABEL, layOutMosaic, tilePlace } from "./layout.mjs";
import { numberOf } from "./values.mjs";

/** @param {App} app */
export function drawMosaic(app) {
  const { layer } = app.shown;
  const width = element("scroll").clientWidth - 16;
  const room = Math.max(400, window.innerHeight - 340);
  app.grid = layOutMosaic(app.order.length, width, room, layer.height / layer.width);
  const { columns, rows, tile, cell } = app.grid;
  const drawing = resizeCanvas(canvasOf("mosaic"), Math.min(width, columns * (tile + GAP) - GAP), rows * cell - GAP);
  drawing.imageSmoothingEnabled = isShrunk(tile, layer.width);
  drawing.font = "11px system-ui, sans-serif";
  drawing.textBaseline = "alphabetic";
  const across = Math.ceil(Math.sqrt(app.order.length * app.grid.ratio)) || 1;
  const source = paintMaps(app, across, Math.ceil(app.order.length / across), app.order);
  app.order.forEach((channel, i) => drawTile(app, drawing, source, across, channel, i));
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {HTMLCanvasElement} source @param {number} across @param {number} channel @param {number} i */
function drawTile(app, drawing, source, across, channel, i) {
  const { layer, marks } = app.shown;
  const { tile, ratio } = app.grid;
  const { left, top } = tilePlace(i, app.grid);
  const [from, below] = [(i % across) * layer.width, Math.floor(i / across) * layer.height];
  drawing.drawImage(source, from, below, layer.width, layer.height, left, top, tile, tile * ratio);
  if (marks[channel] === "dead") hatch(drawing, left, top, tile, tile * ratio);
  drawing.strokeStyle = styleOf(app, "--edge");
  drawing.strokeRect(left + 0.5, top + 0.5, tile - 1, tile * ratio - 1);
  drawing.fillStyle = styleOf(app, "--quiet");
  drawing.fillText(labelOf(app, drawing, channel), left, top - 5, tile + GAP);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {number} channel @returns {string} its number, and its mark as far as there is room */
function labelOf(app, drawing, channel) {
  const number = numberOf(app.shown, channel);
  const mark = app.shown.marks[channel];
  if (!mark) return `${number}`;
  const label = `${number} ${mark}`;
  return drawing.measureText(label).width > app.grid.tile ? `${number} ${mark[0]}` : label;
}

/** @param {App} app */
export function frameChosen(app) {
  const { tile, ratio } = app.grid;
  const { left, top } = tilePlace(app.order.indexOf(app.state.channel), app.grid);
  Object.assign(element("chosen").style, {
    left: `${left - 2}px`,
    top: `${top - 2}px`,
    width: `${tile + 4}px`,
    height: `${tile * ratio + 4}px`,
  });
  const scroll = element("scroll");
  const bottom = top + tile * ratio + 12;
  if (top - LABEL < scroll.scrollTop) scroll.scrollTop = top - LABEL;
  if (bottom > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = bottom - scroll.clientHeight;
}
