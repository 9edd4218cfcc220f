/**
 * Signed maps over the input: contributions to the score, or maps of other origin; the more solid, the more.
 */

/** @import { App } from "./app.mjs" */
/** @import { Input, PackedOver, Payload, Size } from "./data.mjs" */
/** @import { Palettes } from "./colors.mjs" */
import { cssColor } from "./colors.mjs";
import { inflate, unpackMaps } from "./data.mjs";
import { canvasOf, element, resizeCanvas } from "./drawing.mjs";
import { payloadOf } from "./sizes.mjs";
import { formatSigned } from "./words.mjs";

const HUE = 0.88; // where in the palette the color of the positive sign is taken
const LEAST = 0.35; // of the distance from the picture's gray to white, that is left where nothing lies over it
const SOLID = 0.95; // of a color at the end of the scale
const BACKGROUND = 240; // gray of the bar's middle

/** @typedef {{ map: PackedOver | null, reach: number, words: string }} Over */

/** @param {Payload} payload @param {number} layer @param {number} choice @returns {Over | null} null: nothing */
function findOver(payload, layer, choice) {
  if (!choice) return null;
  const { score, overlays, layers, input } = payload;
  if (score && choice === 1) {
    const { contributions, name } = layers[layer];
    const map = contributions?.over ?? null;
    const without = contributions ? `The contributions of ${name} are not drawn over an input of other axes` : `The score does not depend on ${name}`;
    const place = ["position", "pixel", "voxel"][input.axes - 1];
    const words = map ? `Over the input: contributions per ${place}, one scale for all layers and images` : without;
    return { map, reach: score.reach, words };
  }
  const { name, over, reach } = overlays[choice - (score ? 2 : 1)];
  return { map: over, reach, words: `Over the input: ${name}, one scale for all images` };
}

/** @param {App} app @param {number} layer @param {number} image @param {number} choice @returns {Promise<HTMLCanvasElement | null>} the input under the map, one pixel a pixel of it, as it lies on its picture; null where nothing is to lie over it */
export async function loadOver(app, layer, image, choice) {
  const payload = payloadOf(app.sizes, image);
  const { input, codes } = payload;
  const over = findOver(payload, layer, choice);
  if (!over?.map) return null;
  const spread = over.map.spreads[over.map.of[image]];
  const [maps, ...lines] = await Promise.all([
    unpackMaps(over.map.maps[image], { ...spread, every: 1, pieces: [[1, 1]], order: null }),
    ...[spread.slices, spread.rows, spread.columns].map(async (line) => (line ? new Int32Array(await inflate(line)) : Int32Array.of(0))),
  ]);
  await app.pictures[image].decode();
  const canvas = document.createElement("canvas");
  const line = input.axes === 1;
  Object.assign(canvas, { width: input.width * input.columns, height: input.height * Math.ceil(input.depth / input.columns) });
  const drawing = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  if (!line) drawing.drawImage(app.pictures[image], 0, 0, canvas.width, canvas.height);
  const pixels = drawing.getImageData(0, 0, canvas.width, canvas.height);
  const values = Float64Array.from(maps.codes, (code) => (maps.low[0] * (codes.steps - code) + maps.high[0] * code) / codes.steps);
  const valueOf = valuesOver(values, spread, lines, input);
  if (line) pixels.data.forEach((_, at) => (pixels.data[at] = at % 4 === 3 ? 255 * shareOf(valueOf(at >> 2, 0), over.reach) : signsOf(app.palettes)[valueOf(at >> 2, 0) < 0 ? 0 : 1][at % 4]));
  else mixInto(pixels.data, signsOf(app.palettes), over.reach, canvas.width, valueOf);
  drawing.putImageData(pixels, 0, 0);
  return canvas;
}

/** @param {Float64Array} values of the map @param {Size} size of its slices @param {Int32Array[]} lines which slice, row and column of it each of the input shows @param {Input} input @returns {(x: number, y: number) => number} the value over a pixel of the input's picture, where the slices of a volume lie beside each other; 0 where there is none */
export function valuesOver(values, size, [slices, rows, columns], input) {
  return (x, y) => {
    const z = Math.floor(y / input.height) * input.columns + Math.floor(x / input.width);
    if (z >= input.depth) return 0;
    return values[(slices[z] * size.height + rows[y % input.height]) * size.width + columns[x % input.width]];
  };
}

/** @param {Uint8ClampedArray} pixels of the picture, which is changed @param {number[][]} signs the colors of below and above zero @param {number} reach the end of the scale @param {number} width @param {(x: number, y: number) => number} valueOf */
export function mixInto(pixels, signs, reach, width, valueOf) {
  for (let at = 0; at < pixels.length; at += 4) {
    const value = valueOf((at / 4) % width, Math.floor(at / 4 / width));
    const gray = 255 - (1 - LEAST) * (255 - (0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2]));
    const share = shareOf(value, reach);
    const color = signs[value < 0 ? 0 : 1];
    for (let i = 0; i < 3; i++) pixels[at + i] = Math.round((1 - share) * gray + share * color[i]);
  }
}

/** @param {number} value @param {number} reach @returns {number} how solid its color is */
function shareOf(value, reach) {
  return SOLID * Math.sqrt(Math.min(1, Math.abs(value) / reach));
}

/** @param {Palettes} palettes @returns {number[][]} the colors of below and above zero, as red, green and blue */
function signsOf(palettes) {
  return [1 - HUE, HUE].map((place) => {
    const color = palettes.signed[Math.round(place * (palettes.signed.length - 1))];
    return [color & 255, (color >> 8) & 255, (color >> 16) & 255];
  });
}

/** @param {Palettes} palettes @returns {string[]} the colors of what speaks against the score, and for it */
export function signColors(palettes) {
  return [1 - HUE, HUE].map((place) => cssColor(palettes.signed[Math.round(place * (palettes.signed.length - 1))]));
}

/** @param {App} app The scale of what lies over the input, and what it is. */
export function writeOver(app) {
  const over = findOver(app.payload, app.state.layer, app.state.over);
  const words = element("over-words");
  words.hidden = !over;
  element("over-bar").hidden = !over?.map;
  if (!over) return;
  words.textContent = over.map ? `${over.words}; violet above zero, orange below.` : `${over.words}.`;
  if (!over.map) return;
  const width = element("input").clientWidth - 10;
  element("over-bar").style.width = `${width}px`;
  const drawing = resizeCanvas(canvasOf("over-colors"), width, 12);
  const signs = signsOf(app.palettes);
  for (let x = 0; x < width; x++) {
    const value = (2 * (x + 0.5)) / width - 1;
    const share = shareOf(value, 1);
    drawing.fillStyle = `rgb(${signs[value < 0 ? 0 : 1].map((one) => Math.round((1 - share) * BACKGROUND + share * one)).join(",")})`;
    drawing.fillRect(x, 0, 1, 12);
  }
  const numbers = [`≤ ${formatSigned(-over.reach)}`, "0", `≥ ${formatSigned(over.reach)}`];
  [...element("over-numbers").children].forEach((one, i) => (one.textContent = numbers[i]));
}
