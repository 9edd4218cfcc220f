/**
 * Layers of one unit, whose maps are single values: a bar for each channel, in the color of its value.
 */

/** @import { App } from "./app.mjs" */
/** @import { Scale } from "./colors.mjs" */
/** @import { Size } from "./data.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { cssColor, levelOf } from "./colors.mjs";
import { valueAt } from "./values.mjs";

const LINE = "#96969e"; // at zero
const ROOMY = 3; // CSS pixels of a bar from which on there is a gap after it

/** @typedef {{ from: number, to: number, least: number, greatest: number, broken: boolean }} Bar of channels, half open: their least and greatest finite value and zero, and whether one is not finite */

/** @param {Loaded} loaded a layer of one unit @param {number} most bars @returns {Bar[]} one for each channel, or for as many that share one */
export function barsOf(loaded, most) {
  const count = Math.min(loaded.count, Math.max(1, Math.floor(most)));
  return Array.from({ length: count }, (_, i) => {
    const [from, to] = [Math.floor((i * loaded.count) / count), Math.floor(((i + 1) * loaded.count) / count)];
    const values = [...Array(to - from).keys()].map((at) => valueAt(loaded, from + at, 0, 0));
    const finite = values.filter(Number.isFinite);
    return { from, to, least: Math.min(0, ...finite), greatest: Math.max(0, ...finite), broken: finite.length < values.length };
  });
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Loaded} loaded a layer of one unit @param {Scale} scale from the bottom to the top @param {Size} size */
export function drawChannelBars(app, drawing, loaded, scale, { width, height }) {
  /** @param {number} value */
  const level = (value) => height * (1 - Math.min(1, Math.max(0, (value - scale.low) / (scale.high - scale.low))));
  const bars = barsOf(loaded, width);
  const gap = bars.length > 1 && width / bars.length >= ROOMY ? 1 : 0;
  drawing.fillStyle = cssColor(scale.colors[levelOf(0, scale)]); // against which each bar stands out as its value does from zero
  drawing.fillRect(0, 0, width, height);
  const zero = Math.min(level(0), height - 1);
  for (const [place, { least, greatest, broken }] of bars.entries()) {
    const [left, right] = [place, place + 1].map((end) => Math.round((end * width) / bars.length));
    const [top, bottom] = broken ? [0, height] : [level(greatest), level(least)];
    drawing.fillStyle = cssColor(broken ? app.palettes.crimson : scale.colors[levelOf(-least > greatest ? least : greatest, scale)]);
    drawing.fillRect(left, top, right - left - gap, bottom - top);
  }
  drawing.fillStyle = LINE;
  drawing.fillRect(0, Math.round(zero), width, 1);
}
