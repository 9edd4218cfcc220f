/**
 * Maps and signals of one axis: lines, the area between a map's line and zero in the colors of its values.
 */

/** @import { App } from "./app.mjs" */
/** @import { Scale } from "./colors.mjs" */
/** @import { Maps, Size } from "./data.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { colorTable, cssColor } from "./colors.mjs";
import { styleOf } from "./drawing.mjs";
import { decodeValue } from "./values.mjs";

const AROUND = 3; // CSS pixels above and below a signal's line

/** @typedef {{ left: number, top: number, width: number, height: number }} Place of a picture, in CSS pixels */
/** @typedef {{ from: number, to: number, least: number, greatest: number, broken: boolean }} Stretch of a line that is one pixel wide, or one value: where it lies, its codes, and whether it holds one that is not finite */

/** @param {Uint8Array} codes of a line @param {number} pixels that it may take @param {number} nonfinite @returns {Stretch[]} */
export function stretchesOf(codes, pixels, nonfinite) {
  const count = Math.max(1, Math.min(codes.length, Math.floor(pixels)));
  return Array.from({ length: count }, (_, i) => {
    const [from, to] = [Math.floor((i * codes.length) / count), Math.floor(((i + 1) * codes.length) / count)];
    const finite = codes.subarray(from, to).filter((code) => code !== nonfinite);
    return { from, to, least: Math.min(...finite), greatest: Math.max(...finite), broken: finite.length < to - from };
  });
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Loaded} loaded a layer of one axis @param {number} channel @param {Scale} scale from the picture's bottom to its top @param {Place} place */
export function drawLine(app, drawing, loaded, channel, scale, { left, top, width, height }) {
  const table = colorTable(loaded, channel, scale, app.palettes);
  const { nonfinite } = loaded.codeBook;
  const stretches = stretchesOf(loaded.codes.subarray(channel * loaded.units, (channel + 1) * loaded.units), width, nonfinite);
  /** @param {number} unit */
  const across = (unit) => left + (unit * width) / loaded.units;
  /** @param {number} value */
  const level = (value) => top + height * (1 - Math.min(1, Math.max(0, (value - scale.low) / (scale.high - scale.low))));
  const zero = level(0);
  drawing.save();
  for (const { from, to, least, greatest, broken } of stretches) {
    const [x0, x1] = [Math.round(across(from)), Math.max(Math.round(across(to)), Math.round(across(from)) + 1)];
    const [low, high] = [decodeValue(loaded, channel, least), decodeValue(loaded, channel, greatest)];
    drawing.fillStyle = cssColor(table[broken ? nonfinite : -low > high ? least : greatest]);
    const [above, below] = broken ? [top, top + height] : [Math.min(level(high), zero), Math.max(level(low), zero)];
    drawing.fillRect(x0, above, x1 - x0, below - above);
  }
  drawing.fillStyle = styleOf(app, "--edge");
  drawing.fillRect(left, Math.min(zero, top + height - 1), width, 1);
  drawing.beginPath();
  strokeStretches(drawing, stretches, across, (code) => level(decodeValue(loaded, channel, code)), loaded.units > stretches.length);
  drawing.lineJoin = "round";
  drawing.lineWidth = 1;
  drawing.strokeStyle = styleOf(app, "--ink");
  drawing.stroke();
  drawing.restore();
}

/** @param {CanvasRenderingContext2D} drawing with a path that is begun @param {Stretch[]} stretches @param {(unit: number) => number} across @param {(code: number) => number} level @param {boolean} dense whether a stretch holds several values */
function strokeStretches(drawing, stretches, across, level, dense) {
  let open = false;
  for (const { from, to, least, greatest, broken } of stretches) {
    if (broken) {
      open = false;
      continue;
    }
    const [x0, x1] = dense ? [across((from + to) / 2), across((from + to) / 2)] : [across(from), across(to)];
    if (open) drawing.lineTo(x0, level(greatest));
    else drawing.moveTo(x0, level(greatest));
    drawing.lineTo(x1, level(least));
    open = true;
  }
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Maps} signal @param {Size} size The signal's channels, one below the other, each on one scale for all signals. */
export function drawSignal(app, drawing, signal, size) {
  const { codes: book, signals } = app.payload;
  const { low, high } = /** @type {{ low: number[], high: number[] }} */ (signals);
  const tall = size.height / signal.count;
  const length = signal.codes.length / signal.count;
  drawing.save();
  for (let channel = 0; channel < signal.count; channel++) {
    const codes = signal.codes.subarray(channel * length, (channel + 1) * length);
    const stretches = stretchesOf(codes, size.width, book.nonfinite);
    const span = high[channel] - low[channel] || 1;
    /** @param {number} value */
    const levelOfValue = (value) => (channel + 1) * tall - AROUND - ((tall - 2 * AROUND) * (value - low[channel])) / span;
    /** @param {number} unit */
    const across = (unit) => (unit * size.width) / length;
    drawing.fillStyle = styleOf(app, "--edge");
    if (low[channel] < 0 && high[channel] > 0) drawing.fillRect(0, Math.round(levelOfValue(0)), size.width, 1);
    if (channel) drawing.fillRect(0, Math.round(channel * tall), size.width, 1);
    drawing.fillStyle = cssColor(app.palettes.crimson);
    for (const one of stretches) if (one.broken) drawing.fillRect(across(one.from), channel * tall, Math.max(1, across(one.to) - across(one.from)), tall);
    drawing.beginPath();
    const step = (signal.high[channel] - signal.low[channel]) / book.steps;
    strokeStretches(drawing, stretches, across, (code) => levelOfValue(signal.low[channel] + code * step), length > stretches.length);
    drawing.lineJoin = "round";
    drawing.lineWidth = 1.3;
    drawing.strokeStyle = styleOf(app, "--ink");
    drawing.stroke();
  }
  drawing.restore();
}
