/**
 * The large views: the chosen channel's map, the input with the field of a unit, and the color bar.
 */

/** @import { App } from "./app.mjs" */
/** @import { Size } from "./data.mjs" */
/** @import { Box } from "./fields.mjs" */
/** @import { Unit } from "./values.mjs" */
import { currentChannel, currentScale } from "./app.mjs";
import { cssColor } from "./colors.mjs";
import { WHOLE, canvasOf, drawField, element, hatch, isShrunk, outline, resizeCanvas, roomIn } from "./drawing.mjs";
import { boxAt } from "./fields.mjs";
import { fitInto, shapeOf } from "./layout.mjs";
import { drawLine, drawSignal } from "./lines.mjs";
import { findRegion } from "./pixel.mjs";
import { currentVoxel, drawBoxes, drawPanels, layOutPanels } from "./slices.mjs";
import { outlineRegion } from "./strip.mjs";
import { shareBeyond, valueAt } from "./values.mjs";
import { describeBox, describeScale, formatNumber } from "./words.mjs";

export const MARGIN = 5; // around the input, for the outline
const SMALLEST = 7; // of the frame around a unit

/** @param {HTMLCanvasElement} canvas @returns {HTMLElement} */
function figureOf(canvas) {
  return /** @type {HTMLElement} */ (canvas.parentElement);
}

/** @param {App} app @param {Unit} unit */
export function drawMap(app, { y, x }) {
  const { layer, marks } = app.shown;
  const canvas = canvasOf("map");
  const room = roomIn(app, figureOf(canvas));
  const line = layer.axes === 1;
  const size = fitInto(shapeOf(layer, app.payload.input), room.width, room.height);
  const drawing = resizeCanvas(canvas, size.width, size.height);
  drawing.imageSmoothingEnabled = isShrunk(size.width, layer.width);
  const channel = currentChannel(app);
  if (line) drawLine(app, drawing, app.shown, channel, currentScale(app, channel), { left: 0, top: 0, ...size });
  else drawing.drawImage(app.mapPicture, 0, 0, size.width, size.height);
  if (marks[channel] === "dead") hatch(drawing, 0, 0, size.width, size.height);
  const cell = { width: size.width / layer.width, height: size.height / layer.height };
  const width = Math.max(cell.width, SMALLEST);
  const height = line ? size.height - 6 : Math.max(cell.height, SMALLEST);
  const left = Math.min(Math.max((x + 0.5) * cell.width - width / 2, 3), size.width - width - 3);
  const top = Math.min(Math.max((y + 0.5) * cell.height - height / 2, 3), size.height - height - 3);
  outline(drawing, left, top, width, height, WHOLE);
  const region = app.pixel && findRegion(layer, app.shown, channel, app.pixel);
  if (region) outlineRegion(drawing, region, size.width / layer.units[1], size.height / layer.units[0]);
}

/** @param {App} app @param {Unit} unit */
export function drawInput(app, unit) {
  const { input, images } = app.payload;
  const canvas = canvasOf("input");
  const room = roomIn(app, figureOf(canvas));
  const box = boxAt(app.shown, currentChannel(app), unit);
  if (input.axes === 3) drawVolume(app, canvas, room, box);
  else drawPlain(app, canvas, fitInto(input.axes === 1 ? { width: 2, height: 1 } : input, room.width, room.height), box);
  canvas.setAttribute("aria-label", `Input image ${images[app.state.image].name}. ${describeBox(box, input)} Click, or press arrow keys, to choose a pixel; Escape to let go of it.`);
}

/** @param {App} app @param {HTMLCanvasElement} canvas @param {Size} size @param {Box | null} box An image, or the lines of a signal. */
function drawPlain(app, canvas, size, box) {
  const { input } = app.payload;
  const drawing = resizeCanvas(canvas, size.width + 2 * MARGIN, size.height + 2 * MARGIN);
  const across = size.width / input.width;
  const down = size.height / input.height;
  const line = input.axes === 1;
  drawing.imageSmoothingEnabled = isShrunk(across, 1);
  drawing.translate(MARGIN, MARGIN);
  const under = app.over ?? (line ? null : app.pictures[app.state.image]);
  if (under) drawing.drawImage(under, 0, 0, size.width, size.height);
  if (line) drawSignal(app, drawing, app.signals[app.state.image], size);
  drawField(app, drawing, box, size, app.preview !== null);
  if (app.pixel) cross(drawing, (app.pixel.x + 0.5) * across, (app.pixel.y + 0.5) * down);
}

/** @param {App} app @param {HTMLCanvasElement} canvas @param {Size} room @param {Box | null} box A volume's slice, and sections across it. */
function drawVolume(app, canvas, room, box) {
  const panels = layOutPanels(app.payload.input, room);
  app.panels = panels;
  const { side, below, slice, scale } = panels;
  const voxel = currentVoxel(app);
  const drawing = resizeCanvas(canvas, side.left + side.width + 2 * MARGIN, below.top + below.height + 2 * MARGIN);
  drawing.translate(MARGIN, MARGIN);
  drawPanels(app, drawing, panels, voxel);
  drawBoxes(app, drawing, panels, box, voxel.z);
  if (app.pixel?.z === voxel.z) cross(drawing, slice.left + (app.pixel.x + 0.5) * scale, slice.top + (app.pixel.y + 0.5) * scale);
}

/** @param {CanvasRenderingContext2D} drawing @param {number} x @param {number} y */
function cross(drawing, x, y) {
  for (const [color, line] of /** @type {const} */ ([["#000", 5], ["#ffd400", 2.5]])) {
    drawing.strokeStyle = color;
    drawing.lineWidth = line;
    drawing.beginPath();
    for (const [across, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      drawing.moveTo(x + 4 * across, y + 4 * down);
      drawing.lineTo(x + 11 * across, y + 11 * down);
    }
    drawing.stroke();
  }
}

/** @param {App} app */
export function drawBar(app) {
  const scale = currentScale(app, currentChannel(app));
  const width = element("map").clientWidth || 200;
  const drawing = resizeCanvas(canvasOf("bar-colors"), width, 12);
  const levels = scale.colors.length;
  scale.colors.forEach((color, level) => {
    drawing.fillStyle = cssColor(color);
    drawing.fillRect((level * width) / levels, 0, width / levels + 1, 12);
  });
  element("bar").style.width = `${width}px`;
  element("bar-numbers").style.width = `${width}px`;
  const beyond = app.state.scale === "robust" ? (app.shown.beyond ??= shareBeyond(app.shown, scale.high)) : 0;
  const marks = beyond ? [scale.low < 0 ? "≤ " : "", "", "≥ "] : ["", "", ""];
  const numbers = [scale.low, (scale.low + scale.high) / 2, scale.high];
  [...element("bar-numbers").children].forEach((one, i) => (one.textContent = `${marks[i]}${formatNumber(numbers[i], 3)}`));
  const words = describeScale(app.state.scale, app.payload.images.length, beyond);
  const shared = app.siblings.length > 1 && (app.state.scale === "robust" || app.state.scale === "layer");
  element("scale-words").textContent = shared ? `${words} Both models share it, and the difference has its own.` : words;
}

/** @param {App} app @param {Unit} unit */
export function markBar(app, { z, y, x }) {
  const scale = currentScale(app, currentChannel(app));
  const value = valueAt(app.shown, currentChannel(app), y, x, z);
  const mark = element("bar-mark");
  mark.hidden = Number.isNaN(value);
  if (!mark.hidden) mark.style.left = `${Math.min(100, Math.max(0, (100 * (value - scale.low)) / (scale.high - scale.low)))}%`;
}
