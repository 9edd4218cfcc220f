/**
 * The large views: the chosen channel's map, the input with the field of a unit, and the color bar.
 */

/** @import { App } from "./app.mjs" */
import { currentScale } from "./app.mjs";
import { cssColor } from "./colors.mjs";
import { canvasOf, element, hatch, isShrunk, outline, resizeCanvas, roomIn, styleOf } from "./drawing.mjs";
import { boxAt, cutSides } from "./fields.mjs";
import { fitInto } from "./layout.mjs";
import { describeBox, describeScale, formatNumber } from "./words.mjs";
import { valueAt } from "./values.mjs";

const MARGIN = 5; // around the input, for the outline
const SMALLEST = 7; // of the frame around a unit
const WHOLE = { top: false, bottom: false, left: false, right: false };

/** @param {HTMLCanvasElement} canvas @returns {HTMLElement} */
function figureOf(canvas) {
  return /** @type {HTMLElement} */ (canvas.parentElement);
}

/** @param {App} app @param {number} y @param {number} x */
export function drawMap(app, y, x) {
  const { layer, marks } = app.shown;
  const canvas = canvasOf("map");
  const room = roomIn(figureOf(canvas));
  const size = fitInto(layer, room.width, room.height);
  const drawing = resizeCanvas(canvas, size.width, size.height);
  drawing.imageSmoothingEnabled = isShrunk(size.width, layer.width);
  drawing.drawImage(app.mapPicture, 0, 0, size.width, size.height);
  if (marks[app.state.channel] === "dead") hatch(drawing, 0, 0, size.width, size.height);
  const cell = { width: size.width / layer.width, height: size.height / layer.height };
  const width = Math.max(cell.width, SMALLEST);
  const height = Math.max(cell.height, SMALLEST);
  const left = Math.min(Math.max((x + 0.5) * cell.width - width / 2, 3), size.width - width - 3);
  const top = Math.min(Math.max((y + 0.5) * cell.height - height / 2, 3), size.height - height - 3);
  outline(drawing, left, top, width, height, WHOLE);
}

/** @param {App} app @param {number} y @param {number} x */
export function drawInput(app, y, x) {
  const { input, images } = app.payload;
  const canvas = canvasOf("input");
  const room = roomIn(figureOf(canvas));
  const size = fitInto(input, room.width, room.height);
  const drawing = resizeCanvas(canvas, size.width + 2 * MARGIN, size.height + 2 * MARGIN);
  const across = size.width / input.width;
  const down = size.height / input.height;
  drawing.imageSmoothingEnabled = isShrunk(across, 1);
  drawing.translate(MARGIN, MARGIN);
  drawing.drawImage(app.pictures[app.state.image], 0, 0, size.width, size.height);
  drawing.fillStyle = `rgba(${styleOf(app, "--fade")}, .58)`;
  const box = boxAt(app.shown, app.state.channel, y, x);
  drawing.beginPath();
  drawing.rect(0, 0, size.width, size.height);
  if (box) {
    const [left, top] = [box.x0 * across, box.y0 * down];
    const [width, height] = [(box.x1 - box.x0) * across, (box.y1 - box.y0) * down];
    drawing.rect(left, top, width, height);
    drawing.fill("evenodd");
    outline(drawing, left, top, width, height, cutSides(box, input));
  } else {
    drawing.fill("evenodd");
  }
  canvas.setAttribute("aria-label", `Input image ${images[app.state.image].name}. ${describeBox(box, input)}`);
}

/** @param {App} app */
export function drawBar(app) {
  const scale = currentScale(app, app.state.channel);
  const width = element("map").clientWidth || 200;
  const drawing = resizeCanvas(canvasOf("bar-colors"), width, 12);
  const levels = scale.colors.length;
  scale.colors.forEach((color, level) => {
    drawing.fillStyle = cssColor(color);
    drawing.fillRect((level * width) / levels, 0, width / levels + 1, 12);
  });
  element("bar").style.width = `${width}px`;
  element("bar-numbers").style.width = `${width}px`;
  const numbers = [scale.low, (scale.low + scale.high) / 2, scale.high];
  [...element("bar-numbers").children].forEach((one, i) => (one.textContent = formatNumber(numbers[i], 3)));
  element("scale-words").textContent = describeScale(app.state.scale, app.payload.images.length);
}

/** @param {App} app @param {number} y @param {number} x */
export function markBar(app, y, x) {
  const scale = currentScale(app, app.state.channel);
  const value = valueAt(app.shown, app.state.channel, y, x);
  const mark = element("bar-mark");
  mark.hidden = Number.isNaN(value);
  if (!mark.hidden) mark.style.left = `${(100 * (value - scale.low)) / (scale.high - scale.low)}%`;
}
