/**
 * The weight of the kernel that was clicked, and its part in the unit's value.
 */

/** @import { App } from "./app.mjs" */
/** @import { Tap, Values } from "./tap.mjs" */
import { currentChannel, currentUnit, loadLayer } from "./app.mjs";
import { element } from "./drawing.mjs";
import { clamp } from "./state.mjs";
import { describeTap, sumTaps, valuesOf, valuesOfImage } from "./tap.mjs";
import { valueAt } from "./values.mjs";

/** @param {App} app @returns {boolean} whether the page knows what the convolution took */
export function hasArithmetic(app) {
  return app.shown.layer.kernels?.source !== undefined;
}

/** @param {App} app @returns {Promise<Values>} */
async function inputOf(app) {
  const source = app.shown.layer.kernels?.source;
  if (source) return valuesOf(await loadLayer(app, app.payload.layers.findIndex((layer) => layer.name === source), app.state.image));
  const { input } = app.payload;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, input);
  const drawing = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  drawing.drawImage(app.pictures[app.state.image], 0, 0, input.width, input.height);
  return valuesOfImage(drawing.getImageData(0, 0, input.width, input.height).data, input);
}

/** @param {App} app Write what the weight contributes to the unit that is spoken of. */
export async function writeTap(app) {
  const { shown, tap } = app;
  const { kernels, every } = shown.layer;
  const words = element("tap-words");
  words.hidden = !tap || !hasArithmetic(app);
  if (!tap || !kernels || words.hidden) return;
  app.source ??= { of: shown, values: inputOf(app) };
  if (app.source.of !== shown) app.source = { of: shown, values: inputOf(app) };
  const values = await app.source.values;
  if (app.shown !== shown || app.tap !== tap) return;
  const [channel, { y, x }] = [currentChannel(app), currentUnit(app)]; // of maps, as only their convolutions are followed
  const parts = sumTaps(shown, kernels, channel, y * every, x * every, tap, values);
  const input = /** @type {Int32Array} */ (shown.kernelInputs)[channel * kernels.shape[0] + tap.input];
  words.textContent = describeTap(parts, tap, input, kernels, valueAt(shown, channel, y, x), app.payload.at !== "output");
}

/** @param {App} app @param {string} key @returns {Tap | null | undefined} the weight that a key leads to, null to let go of it, undefined for another key */
export function tapByKey(app, key) {
  const [count, height, width] = app.shown.layer.kernels?.shape ?? [0, 0, 0];
  if (key === "Escape") return null;
  /** @type {Record<string, [number, number, number]>} */
  const moves = { ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0], ArrowLeft: [0, 0, -1], ArrowRight: [0, 0, 1], PageUp: [-1, 0, 0], PageDown: [1, 0, 0], Enter: [0, 0, 0] };
  const move = moves[key];
  if (!move) return undefined;
  const { input, row, column } = app.tap ?? { input: 0, row: height >> 1, column: width >> 1 };
  return { input: clamp(input + move[0], count), row: clamp(row + move[1], height), column: clamp(column + move[2], width) };
}
