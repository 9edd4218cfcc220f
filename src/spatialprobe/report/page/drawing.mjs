/**
 * Canvases: sharp on every screen, hatched, outlined, painted from codes.
 */

/** @import { Size } from "./data.mjs" */
/** @import { App } from "./app.mjs" */
/** @import { Box, Sides } from "./fields.mjs" */
/** @import { Loaded } from "./values.mjs" */
/** @import { ScaleName } from "./words.mjs" */
import { currentScale } from "./app.mjs";
import { colorTable, scaleOf } from "./colors.mjs";
import { cutSides } from "./fields.mjs";

export const WHOLE = { top: false, bottom: false, left: false, right: false }; // an outline without a side that is cut
const LINES = 7; // CSS pixels between two lines of a hatching
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

/** @param {CanvasRenderingContext2D} drawing @param {number} x @param {number} y @param {number} width @param {number} height Fine lines on nothing, as Python's pictures have them for dead maps. */
export function hatch(drawing, x, y, width, height) {
  if (width <= 0 || height <= 0) return;
  drawing.clearRect(x, y, width, height);
  drawing.save();
  drawing.beginPath();
  drawing.rect(x, y, width, height);
  drawing.clip();
  drawing.beginPath();
  for (let at = LINES; at < width + height; at += LINES) {
    drawing.moveTo(x + at, y);
    drawing.lineTo(x + at - height, y + height);
  }
  drawing.lineWidth = 0.8;
  drawing.strokeStyle = "#96969e";
  drawing.stroke();
  drawing.restore();
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Box | null} box that a unit sees @param {Size} size at which the input is drawn @param {boolean} dims the rest */
export function drawField(app, drawing, box, size, dims) {
  const { input } = app.payload;
  const [across, down] = [size.width / input.width, size.height / input.height];
  const [left, top] = box ? [box.x0 * across, box.y0 * down] : [0, 0];
  const [width, height] = box ? [(box.x1 - box.x0) * across, (box.y1 - box.y0) * down] : [0, 0];
  if (dims) {
    drawing.fillStyle = `rgba(${styleOf(app, "--fade")}, .58)`;
    drawing.beginPath();
    drawing.rect(0, 0, size.width, size.height);
    drawing.rect(left, top, width, height);
    drawing.fill("evenodd");
  }
  if (box) outline(drawing, left, top, width, height, cutSides(box, input));
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

/** @param {App} app @param {number} columns @param {number} rows @param {number[]} channels @returns {HTMLCanvasElement} their maps, of volumes the chosen unit's slice, side by side, one pixel a unit */
export function paintMaps(app, columns, rows, channels) {
  const { width, height } = app.shown.layer;
  return paint(columns * width, rows * height, (pixels, stride) => {
    channels.forEach((channel, i) => {
      const at = Math.floor(i / columns) * height * stride + (i % columns) * width;
      writeMap(pixels, at, stride, app.shown, channel, colorTable(app.shown, channel, currentScale(app, channel), app.palettes), app.state.z);
    });
  });
}

/** @param {App} app @param {Loaded} loaded any layer @param {number} channel @param {ScaleName} scale @param {number} [z] the slice of a volume, the middle one if left out @returns {HTMLCanvasElement} its map, one pixel a unit */
export function paintMap(app, loaded, channel, scale, z = loaded.layer.depth >> 1) {
  const { width, height } = loaded.layer;
  const colors = scaleOf(loaded, channel, scale, app.payload, app.palettes);
  return paint(width, height, (pixels) => writeMap(pixels, 0, width, loaded, channel, colorTable(loaded, channel, colors, app.palettes), z));
}

/** @param {number} width @param {number} height @param {(pixels: Uint32Array, stride: number) => void} write @returns {HTMLCanvasElement} */
function paint(width, height, write) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const drawing = contextOf(canvas);
  const image = drawing.createImageData(width, height);
  write(new Uint32Array(image.data.buffer), width);
  drawing.putImageData(image, 0, 0);
  return canvas;
}

/** @param {Uint32Array} pixels @param {number} start @param {number} stride @param {Loaded} loaded @param {number} channel @param {Uint32Array} table @param {number} z its slice */
function writeMap(pixels, start, stride, loaded, channel, table, z) {
  const { codes, units, layer } = loaded;
  let at = channel * units + z * layer.height * layer.width;
  for (let y = 0; y < layer.height; y++) {
    let to = start + y * stride;
    for (let x = 0; x < layer.width; x++) pixels[to++] = table[codes[at++]];
  }
}

/** @param {App} app @param {HTMLElement} figure @returns {Size} the room that a picture has in its figure: less where more than kernels is to be seen below */
export function roomIn(app, figure) {
  const below = app.payload.score ? 158 : 128;
  const share = window.innerWidth <= 560 ? 0.6 * window.innerHeight : 0.5 * window.innerHeight - below;
  return { width: figure.clientWidth, height: Math.max(200, share) };
}
