/**
 * Details of the chosen channel: its kernel and its numbers.
 */

/** @import { App } from "./app.mjs" */
/** @import { PackedKernels } from "./data.mjs" */
/** @import { Tap } from "./tap.mjs" */
import { currentChannel } from "./app.mjs";
import { cssColor } from "./colors.mjs";
import { hasArithmetic } from "./arithmetic.mjs";
import { WHOLE, canvasOf, element, outline, resizeCanvas, styleOf } from "./drawing.mjs";
import { GAP, LABEL, layOutKernels } from "./layout.mjs";
import { signColors } from "./over.mjs";
import { numberOf } from "./values.mjs";
import { formatCount, formatNumber, formatPercent } from "./words.mjs";

const BETWEEN = 4; // CSS pixels between the slices of a kernel
const BARS = 56; // CSS pixels of the bars of a kernel over a line, from -reach to reach

/** @param {App} app */
export function drawKernel(app) {
  const { kernels } = app.shown.layer;
  element("kernel").hidden = !kernels;
  element("details").classList.toggle("explained", Boolean(kernels && app.payload.score));
  if (!kernels) return;
  const count = kernels.shape[0];
  const extra = kernels.inColor ? 1 : 0;
  const total = count + extra;
  const { tile, columns, dense } = layOutKernels(total, element("kernel").clientWidth);
  const bars = isOverLine(app, kernels);
  const cell = (bars ? BARS : tallOf(kernels, tile)) + LABEL + GAP;
  const canvas = canvasOf("kernel-picture");
  const drawing = resizeCanvas(canvas, columns * (tile + GAP) - GAP, Math.ceil(total / columns) * cell - GAP);
  drawing.font = "11px system-ui, sans-serif";
  const tappable = hasArithmetic(app);
  canvas.tabIndex = tappable ? 0 : -1;
  canvas.style.cursor = tappable ? "pointer" : "default";
  app.taps = { tile, cell, columns, extra };
  for (let i = 0; i < total; i++) {
    const [left, top] = [(i % columns) * (tile + GAP), Math.floor(i / columns) * cell + LABEL];
    if (bars) drawBarsOfTaps(app, drawing, kernels, i, left, top, tile);
    else drawTaps(app, drawing, kernels, i - extra, left, top, tile);
    drawing.fillStyle = styleOf(app, "--quiet");
    drawing.fillText(kernelLabel(app, i - extra, count, dense), left, top - 5, tile + GAP);
    if (tappable && app.tap?.input === i - extra) {
      const tap = tile / kernels.shape[2];
      outline(drawing, left + app.tap.column * tap, top + app.tap.row * tap, tap, tap, WHOLE);
    }
  }
  const hint = tappable && !app.tap ? " Click a weight to see its part in the unit's value." : "";
  const words = describeKernel(app, kernels, dense) + hint;
  element("kernel-words").textContent = words;
  canvas.setAttribute("aria-label", `Kernel of channel ${numberOf(app.shown, currentChannel(app))}: ${words}`);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {PackedKernels} kernels @param {number} input -1: three inputs as one color @param {number} left @param {number} top @param {number} tile */
function drawTaps(app, drawing, kernels, input, left, top, tile) {
  const [, height, width] = kernels.shape;
  const tall = (tile * height) / width;
  for (let at = 0; at < height * width; at++) {
    const [column, row] = [at % width, Math.floor(at / width)];
    const below = BETWEEN * Math.floor((row * kernels.depth) / height);
    const [x0, x1] = [Math.round(left + (column * tile) / width), Math.round(left + ((column + 1) * tile) / width)];
    const [y0, y1] = [Math.round(top + (row * tall) / height), Math.round(top + ((row + 1) * tall) / height)];
    drawing.fillStyle = tapColor(app, kernels, input, at);
    drawing.fillRect(x0, y0 + below, x1 - x0, y1 - y0);
  }
}

/** @param {App} app @param {PackedKernels} kernels @returns {boolean} whether they slide over a line, and are drawn as bars */
function isOverLine(app, { shape }) {
  return app.shown.layer.axes === 1 && shape[1] === 1;
}

/** @param {PackedKernels} kernels @param {number} tile @returns {number} CSS pixels of a kernel from top to bottom, its slices one below the other */
function tallOf({ shape: [, height, width], depth }, tile) {
  return (tile * height) / width + BETWEEN * (depth - 1);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {PackedKernels} kernels over a line @param {number} input @param {number} left @param {number} top @param {number} tile */
function drawBarsOfTaps(app, drawing, kernels, input, left, top, tile) {
  const [count, , width] = kernels.shape;
  const { steps, nonfinite } = app.payload.codes;
  const weights = /** @type {Uint8Array} */ (app.shown.kernels);
  const middle = top + BARS / 2;
  drawing.fillStyle = styleOf(app, "--edge");
  drawing.fillRect(left, Math.round(middle), tile, 1);
  for (let at = 0; at < width; at++) {
    const code = weights[(currentChannel(app) * count + input) * width + at];
    const [x0, x1] = [Math.round(left + (at * tile) / width), Math.round(left + ((at + 1) * tile) / width)];
    const share = code === nonfinite ? 1 : (2 * code) / steps - 1;
    drawing.fillStyle = code === nonfinite ? cssColor(app.palettes.crimson) : signColors(app.palettes)[share < 0 ? 0 : 1];
    const end = middle - (share * BARS) / 2;
    drawing.fillRect(x0, Math.min(middle, end), Math.max(1, x1 - x0 - (tile > 3 * width ? 1 : 0)), Math.max(1, Math.abs(end - middle)));
  }
}

/** @param {App} app @param {PackedKernels} kernels @param {number} input @param {number} at @returns {string} */
function tapColor(app, kernels, input, at) {
  const [count, height, width] = kernels.shape;
  const { steps, nonfinite } = app.payload.codes;
  const weights = /** @type {Uint8Array} */ (app.shown.kernels);
  /** @param {number} one @returns {number} */
  const codeOf = (one) => weights[(currentChannel(app) * count + one) * height * width + at];
  const codes = input < 0 ? [0, 1, 2].map(codeOf) : [codeOf(input)];
  if (codes.includes(nonfinite)) return cssColor(app.palettes.crimson);
  if (input < 0) return `rgb(${codes.map((code) => Math.round((code / steps) * 255)).join(",")})`;
  const colors = app.palettes.signed;
  return cssColor(colors[Math.min(colors.length - 1, Math.floor((codes[0] / steps) * colors.length))]);
}

/** @param {App} app @param {number} input @param {number} count @param {boolean} dense @returns {string} */
function kernelLabel(app, input, count, dense) {
  if (input < 0) return "in color";
  const inputs = /** @type {Int32Array} */ (app.shown.kernelInputs);
  return `${dense ? "" : "input "}${inputs[currentChannel(app) * count + input]}`;
}

/** @param {App} app @param {PackedKernels} kernels @param {boolean} dense @returns {string} */
function describeKernel(app, kernels, dense) {
  const [count, height, width] = kernels.shape;
  const reach = formatNumber(/** @type {Float32Array} */ (app.shown.kernelReach)[currentChannel(app)]);
  const inputs = count < kernels.of ? `the ${count} strongest of ${kernels.of} input channels` : formatCount(count, "input channel");
  const line = isOverLine(app, kernels);
  const size = line ? [width] : kernels.depth > 1 ? [kernels.depth, height / kernels.depth, width] : [height, width];
  const colors = line ? `from -${reach} (orange) to ${reach} (violet)` : `from -${reach} (orange) through 0 (white) to ${reach} (violet)`;
  const words = [`${size.join(" x ")} weights for ${inputs}, ${colors}.`];
  if (kernels.depth > 1) words.push("Their slices lie one below the other.");
  if (dense) words.push("The numbers are those of the input channels.");
  if (kernels.inColor) words.push("In color: the three as red, green and blue, 0 is gray.");
  return words.join(" ");
}

/** @param {App} app */
export function writeNumbers(app) {
  const { shown } = app;
  const channel = currentChannel(app);
  const { sweep } = shown.layer;
  /** @param {string} name @param {(value: number) => string} format @returns {string} a statistic of the sweep, or nothing */
  const swept = (name, format) => {
    const row = sweep ? sweep.names.indexOf(name) : -1;
    return row < 0 || !shown.statistics ? "" : format(shown.statistics[row * shown.count + channel]);
  };
  const rows = [
    ["greatest", formatNumber(shown.high[channel]), swept("maximum", formatNumber)],
    ["mean", formatNumber(shown.mean[channel]), swept("mean", formatNumber)],
    ["least", formatNumber(shown.low[channel]), swept("minimum", formatNumber)],
    ["standard deviation", "", swept("std", formatNumber)],
    ["at or below 0", formatPercent(shown.silent[channel]), ""],
    ["exactly 0", "", swept("zeros", formatPercent)],
    ["samples above 0", "", swept("fired", formatPercent)],
    ["not finite", "", swept("nonfinite", (value) => (value ? formatNumber(value) : ""))],
  ].filter(([, here, there]) => here || there);
  const section = element("numbers");
  section.classList.toggle("swept", Boolean(sweep));
  element("samples").textContent = sweep && sweep.names.length ? formatCount(sweep.samples, "sample") : "";
  section.querySelector("tbody")?.replaceChildren(...rows.map(tableRow));
}

/** @param {string[]} cells @returns {HTMLTableRowElement} */
function tableRow(cells) {
  const row = document.createElement("tr");
  cells.forEach((text, i) => {
    const cell = document.createElement(i ? "td" : "th");
    cell.textContent = text;
    if (!i) cell.scope = "row";
    row.append(cell);
  });
  return row;
}

/** @param {App} app @param {number} left @param {number} top CSS pixels in the kernels' picture @returns {Tap | null} the weight there */
export function tapAt(app, left, top) {
  const { kernels } = app.shown.layer;
  if (!kernels) return null;
  const { tile, cell, columns, extra } = app.taps;
  const [count, height, width] = kernels.shape;
  const tap = tile / width;
  const [across, down] = [left % (tile + GAP), (top % cell) - LABEL];
  const input = Math.floor(top / cell) * columns + Math.floor(left / (tile + GAP)) - extra;
  const [row, column] = [Math.floor(down / tap), Math.floor(across / tap)];
  return input >= 0 && input < count && row >= 0 && row < height && column < width ? { input, row, column } : null;
}
