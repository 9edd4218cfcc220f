/**
 * Canvases: sharp on every screen, hatched, outlined, painted from codes.
 */

/** @import { Size } from "./data.mjs" */
/** @import { App } from "./app.mjs" */
/** @import { Sides } from "./fields.mjs" */
import { currentScale } from "./app.mjs";
import { colorTable } from "./colors.mjs";

const LARGEST = 16000; // pixels along a side, which every browser can draw
/** @type {Record<string, string>} */
const PRINTED = { "--ink": "#1f2025", "--quiet": "#63656e", "--edge": "rgba(0, 0, 0, .12)", "--fade": "255, 255, 255" };

/** @param {string} name @returns {HTMLElement} */
export function element(name) {
  const found = document.getElementById(name);
  if (!found) throw new Error(`The page has no element ${name}.`);
  return found;
}

/** @param {string} name @returns {HTMLCanvasElement} */
export function canvasOf(name) {
  return /** @type {HTMLCanvasElement} */ (element(name));
}

/** @param {App} app @param {string} name of a custom property @returns {string} its value on screen, or on paper */
export function styleOf(app, name) {
  return app.printing ? PRINTED[name] : getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
function contextOf(canvas) {
  const found = canvas.getContext("2d");
  if (!found) throw new Error("This browser draws no canvases.");
  return found;
}

/** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height in CSS pixels @returns {CanvasRenderingContext2D} which draws in CSS pixels */
export function resizeCanvas(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, LARGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const drawing = contextOf(canvas);
  drawing.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
  return drawing;
}

/** @param {number} shown CSS pixels @param {number} pixels of the picture @returns {boolean} whether it is shrunk, and so to be smoothed */
export function isShrunk(shown, pixels) {
  return shown * (window.devicePixelRatio || 1) < pixels;
}

/** @param {CanvasRenderingContext2D} drawing @param {number} x @param {number} y @param {number} width @param {number} height */
export function hatch(drawing, x, y, width, height) {
  drawing.save();
  drawing.beginPath();
  drawing.rect(x, y, width, height);
  drawing.clip();
  drawing.beginPath();
  for (let at = -height; at < width; at += 6) {
    drawing.moveTo(x + at, y + height);
    drawing.lineTo(x + at + height, y);
  }
  drawing.lineWidth = 1.2;
  drawing.strokeStyle = "#96969e";
  drawing.stroke();
  drawing.restore();
}

/** @param {CanvasRenderingContext2D} drawing @param {number} x @param {number} y @param {number} width @param {number} height @param {Sides} dashed the sides that the border cuts */
export function outline(drawing, x, y, width, height, dashed) {
  /** @type {[number, string, number][]} */
  const strokes = [[2.5, "#000", 1.5], [1, "#fff", 2]];
  for (const [extra, color, line] of strokes) {
    drawing.strokeStyle = color;
    drawing.lineWidth = line;
    const [left, top, right, bottom] = [x - extra, y - extra, x + width + extra, y + height + extra];
    strokeSide(drawing, left, top, right, top, dashed.top);
    strokeSide(drawing, left, bottom, right, bottom, dashed.bottom);
    strokeSide(drawing, left, top, left, bottom, dashed.left);
    strokeSide(drawing, right, top, right, bottom, dashed.right);
  }
  drawing.setLineDash([]);
}

/** @param {CanvasRenderingContext2D} drawing @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 @param {boolean} dashed */
function strokeSide(drawing, x0, y0, x1, y1, dashed) {
  drawing.beginPath();
  drawing.setLineDash(dashed ? [5, 5] : []);
  drawing.moveTo(x0, y0);
  drawing.lineTo(x1, y1);
  drawing.stroke();
}

/** @param {App} app @param {number} columns @param {number} rows @param {number[]} channels @returns {HTMLCanvasElement} their maps side by side, one pixel a unit */
export function paintMaps(app, columns, rows, channels) {
  const { width, height } = app.shown.layer;
  const canvas = document.createElement("canvas");
  canvas.width = columns * width;
  canvas.height = rows * height;
  const drawing = contextOf(canvas);
  const image = drawing.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  channels.forEach((channel, i) => {
    paintMap(app, pixels, canvas.width, (i % columns) * width, Math.floor(i / columns) * height, channel);
  });
  drawing.putImageData(image, 0, 0);
  return canvas;
}

/** @param {App} app @param {Uint32Array} pixels @param {number} stride @param {number} left @param {number} top @param {number} channel */
function paintMap(app, pixels, stride, left, top, channel) {
  const table = colorTable(app.shown, channel, currentScale(app, channel), app.palettes);
  const { codes, units, layer } = app.shown;
  let at = channel * units;
  for (let y = 0; y < layer.height; y++) {
    let to = (top + y) * stride + left;
    for (let x = 0; x < layer.width; x++) pixels[to++] = table[codes[at++]];
  }
}

/** @param {HTMLElement} figure @returns {Size} the room that a picture has in its figure */
export function roomIn(figure) {
  return { width: figure.clientWidth, height: Math.max(300, window.innerHeight * 0.62) };
}
