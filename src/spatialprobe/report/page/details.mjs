/**
 * Details of the chosen channel: its kernel, its numbers, its top-activating patches.
 */

/** @import { App } from "./app.mjs" */
/** @import { PackedKernels, PackedPatches } from "./data.mjs" */
/** @import { Box } from "./fields.mjs" */
import { cssColor } from "./colors.mjs";
import { canvasOf, element, hatch, resizeCanvas, styleOf } from "./drawing.mjs";
import { boxOf, isCut } from "./fields.mjs";
import { GAP, LABEL, layOutKernels, layOutPatches } from "./layout.mjs";
import { numberOf } from "./values.mjs";
import { formatCount, formatNumber, formatPercent } from "./words.mjs";

const PATCH_GAP = 8;
const PATCH_LINE = 15; // of text above and below a patch

/** @typedef {{ at: number, sample: number, y: number, x: number, value: number, box: Box | null }} Place where a channel was strongest in a sample */

/** @param {App} app */
export function drawKernel(app) {
  const { kernels } = app.shown.layer;
  element("kernel").hidden = !kernels;
  if (!kernels) return;
  const [count, height, width] = kernels.shape;
  const extra = kernels.inColor ? 1 : 0;
  const total = count + extra;
  const { tile, columns, dense } = layOutKernels(total, element("kernel").clientWidth);
  const cell = (tile * height) / width + LABEL + GAP;
  const canvas = canvasOf("kernel-picture");
  const drawing = resizeCanvas(canvas, columns * (tile + GAP) - GAP, Math.ceil(total / columns) * cell - GAP);
  drawing.font = "11px system-ui, sans-serif";
  for (let i = 0; i < total; i++) {
    const [left, top] = [(i % columns) * (tile + GAP), Math.floor(i / columns) * cell + LABEL];
    drawTaps(app, drawing, kernels, i - extra, left, top, tile);
    drawing.fillStyle = styleOf(app, "--quiet");
    drawing.fillText(kernelLabel(app, i - extra, count, dense), left, top - 5, tile + GAP);
  }
  const words = describeKernel(app, kernels, dense);
  element("kernel-words").textContent = words;
  canvas.setAttribute("aria-label", `Kernel of channel ${numberOf(app.shown, app.state.channel)}: ${words}`);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {PackedKernels} kernels @param {number} input -1: three inputs as one color @param {number} left @param {number} top @param {number} tile */
function drawTaps(app, drawing, kernels, input, left, top, tile) {
  const [, height, width] = kernels.shape;
  const tall = (tile * height) / width;
  for (let at = 0; at < height * width; at++) {
    const [column, row] = [at % width, Math.floor(at / width)];
    const [x0, x1] = [Math.round(left + (column * tile) / width), Math.round(left + ((column + 1) * tile) / width)];
    const [y0, y1] = [Math.round(top + (row * tall) / height), Math.round(top + ((row + 1) * tall) / height)];
    drawing.fillStyle = tapColor(app, kernels, input, at);
    drawing.fillRect(x0, y0, x1 - x0, y1 - y0);
  }
}

/** @param {App} app @param {PackedKernels} kernels @param {number} input @param {number} at @returns {string} */
function tapColor(app, kernels, input, at) {
  const [count, height, width] = kernels.shape;
  const { steps, nonfinite } = app.payload.codes;
  const weights = /** @type {Uint8Array} */ (app.shown.kernels);
  /** @param {number} one @returns {number} */
  const codeOf = (one) => weights[(app.state.channel * count + one) * height * width + at];
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
  return `${dense ? "" : "input "}${inputs[app.state.channel * count + input]}`;
}

/** @param {App} app @param {PackedKernels} kernels @param {boolean} dense @returns {string} */
function describeKernel(app, kernels, dense) {
  const [count, height, width] = kernels.shape;
  const reach = formatNumber(/** @type {Float32Array} */ (app.shown.kernelReach)[app.state.channel]);
  const inputs = count < kernels.of ? `the ${count} strongest of ${kernels.of} input channels` : formatCount(count, "input channel");
  const words = [`${height} x ${width} weights for ${inputs}, from -${reach} (orange) through 0 (white) to ${reach} (violet).`];
  if (dense) words.push("The numbers are those of the input channels.");
  if (kernels.inColor) words.push("In color: the three as red, green and blue, 0 is gray.");
  return words.join(" ");
}

/** @param {App} app */
export function writeNumbers(app) {
  const { shown } = app;
  const { channel } = app.state;
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

/** @param {App} app @returns {Place[]} where the channel was strongest, the strongest first */
function placesOf(app) {
  const { places, values, layer } = app.shown;
  const count = layer.sweep?.columns;
  if (!places || !values || !count) return [];
  const found = Array.from({ length: count }, (_, rank) => {
    const at = app.state.channel * count + rank;
    const [sample, y, x] = places.subarray(3 * at, 3 * at + 3);
    return { at, sample, y, x, value: values[at], box: sample < 0 ? null : boxOf(app.shown, app.state.channel, y, x) };
  });
  return found.filter((one) => one.sample >= 0);
}

/** @param {App} app */
export function drawExemplars(app) {
  const { sweep } = app.shown.layer;
  element("exemplars").hidden = !sweep || !sweep.values;
  if (!sweep || !sweep.values) return;
  const places = placesOf(app);
  const canvas = canvasOf("exemplar-picture");
  const listed = places
    .map((one) => `${formatNumber(one.value)} in sample ${one.sample} at row ${one.y}, column ${one.x}`)
    .join("; ");
  element("exemplar-words").textContent = describeExemplars(app, places, listed);
  canvas.hidden = !sweep.patches || !places.length;
  if (canvas.hidden || !sweep.patches) return;
  canvas.setAttribute("aria-label", `Patches of channel ${numberOf(app.shown, app.state.channel)}: ${listed}`);
  drawPatches(app, canvas, places, sweep.patches);
}

/** @param {App} app @param {Place[]} places @param {string} listed @returns {string} */
function describeExemplars(app, places, listed) {
  const { sweep } = app.shown.layer;
  const samples = formatCount(sweep?.samples ?? 0, "sample");
  const seen = sweep?.patches ? ", and what they see" : "";
  const words = [`The ${formatCount(places.length, "unit")} with the largest values among ${samples}, one a sample${seen}.`];
  if (!sweep?.patches) return listed ? `${words[0]} ${listed}.` : words[0];
  words.push(...sweep.patches.remarks);
  if (places.some(({ box }) => box && isCut(box, app.payload.input))) words.push("Hatched: padding.");
  return words.join(" ");
}

/** @param {App} app @param {HTMLCanvasElement} canvas @param {Place[]} places @param {PackedPatches} patches */
function drawPatches(app, canvas, places, patches) {
  const { tile, columns } = layOutPatches(places.length, element("exemplars").clientWidth, PATCH_GAP);
  const cell = tile + 2 * PATCH_LINE + PATCH_GAP;
  const rows = Math.ceil(places.length / columns);
  const drawing = resizeCanvas(canvas, columns * (tile + PATCH_GAP) - PATCH_GAP, rows * cell - PATCH_GAP);
  const side = Math.max(...places.map(({ box }) => (box ? Math.max(box.Y1 - box.Y0, box.X1 - box.X0) : 1)));
  places.forEach((place, i) => {
    const left = (i % columns) * (tile + PATCH_GAP);
    const top = Math.floor(i / columns) * cell + PATCH_LINE;
    drawing.font = "12px system-ui, sans-serif";
    drawing.fillStyle = styleOf(app, "--ink");
    drawing.fillText(formatNumber(place.value), left, top - 4, tile);
    drawing.font = "11px system-ui, sans-serif";
    drawing.fillStyle = styleOf(app, "--quiet");
    drawing.fillText(`#${place.sample}`, left, top + tile + 12, tile);
    if (place.box) drawPatch(app, drawing, place.at, place.box, patches, left, top, tile / side);
  });
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {number} at @param {Box} box @param {PackedPatches} patches @param {number} left @param {number} top @param {number} factor CSS pixels for a pixel of the input */
function drawPatch(app, drawing, at, box, patches, left, top, factor) {
  const { input } = app.payload;
  const height = (box.Y1 - box.Y0) * factor;
  const width = (box.X1 - box.X0) * factor;
  /** @param {number} length @returns {number} how many pixels of the sheet it has */
  const kept = (length) => Math.max(1, Math.floor(length * patches.share + 0.5));
  drawing.imageSmoothingEnabled = factor < 1;
  drawing.drawImage(
    /** @type {HTMLImageElement} */ (app.shown.sheet),
    (at % patches.columns) * patches.cell, Math.floor(at / patches.columns) * patches.cell,
    kept(box.X1 - box.X0), kept(box.Y1 - box.Y0), left, top, width, height,
  );
  const above = Math.max(0, -box.Y0) * factor;
  const below = Math.max(0, box.Y1 - input.height) * factor;
  const before = Math.max(0, -box.X0) * factor;
  const after = Math.max(0, box.X1 - input.width) * factor;
  hatch(drawing, left, top, width, above);
  hatch(drawing, left, top + height - below, width, below);
  hatch(drawing, left, top + above, before, height - above - below);
  hatch(drawing, left + width - after, top + above, after, height - above - below);
}
