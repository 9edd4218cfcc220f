/**
 * The mosaic: every channel's map under its number, and a frame around the chosen one.
 */

/** @import { App } from "./app.mjs" */
/** @import { Size } from "./data.mjs" */
/** @import { Wall } from "./state.mjs" */
import { currentScale } from "./app.mjs";
import { canvasOf, element, hatch, isShrunk, paintMaps, resizeCanvas, styleOf } from "./drawing.mjs";
import { drawPatch, longestSide, placesOf, whenDecoded } from "./exemplars.mjs";
import { GAP, LABEL, layOutMosaic, shapeOf, tilePlace } from "./layout.mjs";
import { drawLine } from "./lines.mjs";
import { hasSynthesis, paintSynthesis, sizeOfSynthesis } from "./synthesis.mjs";
import { numberOf } from "./values.mjs";
import { formatSigned } from "./words.mjs";

const BESIDE = 2; // patches along a side of a tile

/** @param {App} app @param {Wall} wall @returns {boolean} whether the page has this to show of the layer */
export function offersWall(app, wall) {
  const { sweep } = app.shown.layer;
  if (wall === "synthesized") return hasSynthesis(app.shown);
  return wall === "maps" || Boolean(sweep?.patches) || (Boolean(sweep?.values) && app.payload.samples !== null);
}

/** @param {App} app @returns {Wall} what the mosaic shows: what was chosen, or maps where the layer has none of it */
export function wallOf(app) {
  return offersWall(app, app.state.wall) ? app.state.wall : "maps";
}

/** @param {App} app @param {Wall} wall @returns {Size} the shape of its tiles */
function shapeOfTiles(app, wall) {
  if (wall === "patches") return { height: 1, width: 1 };
  return wall === "synthesized" ? sizeOfSynthesis(app.shown) : shapeOf(app.shown.layer, app.payload.input);
}

/** @param {App} app */
export function drawMosaic(app) {
  const { layer } = app.shown;
  const width = element("scroll").clientWidth - 16;
  const room = Math.max(300, window.innerHeight - 270);
  const wall = wallOf(app);
  const shape = shapeOfTiles(app, wall);
  app.grid = layOutMosaic(app.order.length, width, room, shape.height / shape.width);
  const { columns, rows, tile, cell } = app.grid;
  const drawing = resizeCanvas(canvasOf("mosaic"), Math.min(width, columns * (tile + GAP) - GAP), rows * cell - GAP);
  drawing.imageSmoothingEnabled = isShrunk(tile, layer.width);
  drawing.font = "11px system-ui, sans-serif";
  drawing.textBaseline = "alphabetic";
  app.wallDrawn = wall === "patches" ? drawWall(app, drawing) : Promise.resolve();
  if (wall === "patches") return;
  if (wall === "synthesized") return drawSynthesisWall(app, drawing);
  const across = Math.ceil(Math.sqrt(app.order.length * app.grid.ratio)) || 1;
  const source = layer.axes === 1 ? null : paintMaps(app, across, Math.ceil(app.order.length / across), app.order);
  app.order.forEach((channel, i) => drawTile(app, drawing, source, across, channel, i));
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {HTMLCanvasElement | null} source null: lines @param {number} across @param {number} channel @param {number} i */
function drawTile(app, drawing, source, across, channel, i) {
  const { layer, marks } = app.shown;
  const { tile, ratio } = app.grid;
  const { left, top } = tilePlace(i, app.grid);
  const [from, below] = [(i % across) * layer.width, Math.floor(i / across) * layer.height];
  if (source) drawing.drawImage(source, from, below, layer.width, layer.height, left, top, tile, tile * ratio);
  else drawLine(app, drawing, app.shown, channel, currentScale(app, channel), { left, top, width: tile, height: tile * ratio });
  if (marks[channel] === "dead") hatch(drawing, left, top, tile, tile * ratio);
  drawing.strokeStyle = styleOf(app, "--edge");
  drawing.strokeRect(left + 0.5, top + 0.5, tile - 1, tile * ratio - 1);
  drawing.fillStyle = styleOf(app, "--quiet");
  drawing.fillText(labelOf(app, drawing, channel), left, top - 5, tile + GAP);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @returns {Promise<void>} when the top patches of every channel are drawn */
async function drawWall(app, drawing) {
  const { shown, order, grid } = app;
  drawing.fillStyle = styleOf(app, "--quiet");
  order.forEach((channel, i) => {
    const { left, top } = tilePlace(i, grid);
    drawing.fillText(labelOf(app, drawing, channel), left, top - 5, grid.tile + GAP);
  });
  const side = (grid.tile - 2 * (BESIDE - 1)) / BESIDE;
  for (const [i, channel] of order.entries()) {
    const places = placesOf(shown, channel).slice(0, BESIDE * BESIDE);
    await new Promise((done) => whenDecoded(app, places, () => done(undefined)));
    if (app.grid !== grid) return;
    const { left, top } = tilePlace(i, grid);
    const factor = side / longestSide(places);
    places.forEach((place, rank) => {
      const [column, row] = [rank % BESIDE, Math.floor(rank / BESIDE)];
      drawPatch(app, drawing, place, left + column * (side + 2), top + row * (side + 2), factor);
    });
  }
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing What was made to drive each channel up. */
function drawSynthesisWall(app, drawing) {
  const { tile, ratio } = app.grid;
  app.order.forEach((channel, i) => {
    const { left, top } = tilePlace(i, app.grid);
    paintSynthesis(app.shown, drawing, channel, left, top, tile, tile * ratio);
    drawing.strokeStyle = styleOf(app, "--edge");
    drawing.strokeRect(left + 0.5, top + 0.5, tile - 1, tile * ratio - 1);
    drawing.fillStyle = styleOf(app, "--quiet");
    drawing.fillText(labelOf(app, drawing, channel), left, top - 5, tile + GAP);
  });
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {number} channel @returns {string} its number, and its mark as far as there is room */
function labelOf(app, drawing, channel) {
  const number = numberOf(app.shown, channel);
  const mark = app.shown.marks[channel];
  if (!mark) return withContribution(app, drawing, channel, `${number}`);
  const label = `${number} ${mark}`;
  return drawing.measureText(label).width > app.grid.tile ? `${number} ${mark[0]}` : label;
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {number} channel @param {string} label @returns {string} with what it contributes, where that is the order and there is room */
function withContribution(app, drawing, channel, label) {
  const { contributions } = app.shown;
  if (app.state.order !== "contribution" || !contributions) return label;
  const longer = `${label}: ${formatSigned(contributions[channel])}`;
  return drawing.measureText(longer).width > app.grid.tile ? label : longer;
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
