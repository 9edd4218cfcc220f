/**
 * Inputs that were made by gradient ascent to drive a channel up: the chosen channel's beside its exemplars, and all
 * of a layer in the mosaic.
 */

/** @import { App } from "./app.mjs" */
/** @import { Payload, Size } from "./data.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { currentChannel } from "./app.mjs";
import { canvasOf, element, hatch, isShrunk, resizeCanvas } from "./drawing.mjs";
import { fitInto } from "./layout.mjs";
import { numberOf } from "./values.mjs";
import { formatNumber } from "./words.mjs";

const SIDE = 104; // CSS pixels along each side

/** @param {Loaded} loaded @returns {boolean} whether the page holds pictures of the layer's synthesized inputs */
export function hasSynthesis(loaded) {
  return Boolean(loaded.layer.synthesized?.sheet);
}

/** @param {Loaded} loaded @returns {Size} of a picture on the sheet */
export function sizeOfSynthesis(loaded) {
  const [height, width] = loaded.layer.synthesized?.drawn ?? [1, 1];
  return { height, width };
}

/** @param {App} app */
export function drawSynthesis(app) {
  const { shown, payload } = app;
  const words = describeSynthesis(shown, payload, currentChannel(app));
  element("synthesis").hidden = element("synthesis-words").hidden = !words;
  if (!words) return;
  const row = shown.madeRows ? shown.madeRows[currentChannel(app)] : -1;
  const drawn = hasSynthesis(shown) && row >= 0;
  element("made").hidden = !drawn;
  element("made-value").textContent = drawn ? valueOf(shown, row) : "";
  element("synthesis-words").textContent = words;
  if (!drawn) return;
  const { width, height } = fitInto(sizeOfSynthesis(shown), SIDE, SIDE);
  const canvas = canvasOf("synthesis-picture");
  canvas.setAttribute("aria-label", `Image made for channel ${numberOf(shown, currentChannel(app))}: ${words}`);
  paintSynthesis(shown, resizeCanvas(canvas, width, height), currentChannel(app), 0, 0, width, height);
}

/** @param {Loaded} loaded @param {CanvasRenderingContext2D} drawing @param {number} channel @param {number} left @param {number} top @param {number} width @param {number} height Draw what was made for a channel, hatched if nothing moved it, and nothing where nothing was made. */
export function paintSynthesis(loaded, drawing, channel, left, top, width, height) {
  const { sheet, drawn, unmoved } = loaded.layer.synthesized ?? {};
  const row = loaded.madeRows ? loaded.madeRows[channel] : -1;
  if (!sheet || !drawn || !loaded.madeSheet || row < 0) return;
  if (unmoved?.includes(row)) return hatch(drawing, left, top, width, height);
  const [x, y] = [(row % sheet.columns) * sheet.cell, Math.floor(row / sheet.columns) * sheet.cell];
  drawing.imageSmoothingEnabled = isShrunk(width, drawn[1]);
  drawing.drawImage(loaded.madeSheet, x, y, drawn[1], drawn[0], left, top, width, height);
}

/** @param {Loaded} loaded @param {number} row @returns {string} the value that an image reaches */
function valueOf(loaded, row) {
  if (loaded.layer.synthesized?.unmoved.includes(row)) return "no gradient";
  return formatNumber(/** @type {Float32Array} */ (loaded.madeReached)[row], 3);
}

/** @param {Loaded} loaded @param {Payload} payload @param {number} channel @returns {string} what was made for a channel, and how far it reaches; nothing on a page without any such image */
export function describeSynthesis(loaded, payload, channel) {
  const found = loaded.layer.synthesized;
  if (!found) return payload.layers.some(({ synthesized }) => synthesized) && loaded.layer.kind !== "difference" ? `No image was synthesized for ${loaded.layer.name}.` : "";
  const row = loaded.madeRows ? loaded.madeRows[channel] : -1;
  if (row < 0) return "No image was synthesized for this channel.";
  if (found.unmoved.includes(row)) return "Hatched: no random image gave this channel a gradient, so that none was found that drives it up.";
  const seer = found.unit ? `${found.unit} sees` : "all units see";
  const seen = `the ${found.size.join(" x ")} ${["positions", "pixels", "voxels"][found.size.length - 1]} that ${seer}`;
  const where = payload.at === "post_activation" ? " before the nonlinearity" : "";
  const words = [`Synthesized by gradient ascent, not found in data: ${seen}. ${found.unit ? "There the channel" : "The mean over all units"} reaches ${formatNumber(/** @type {Float32Array} */ (loaded.madeReached)[row], 3)}${where}`];
  words.push(loaded.madeBest ? `, the best real sample ${formatNumber(loaded.madeBest[row], 3)}.` : ".");
  return [words.join(""), ...remarksOn(found, payload)].join(" ");
}

/** @param {import("./data.mjs").PackedSynthesis} found @param {Payload} payload @returns {string[]} how its picture is to be read, where not as the input's */
function remarksOn({ sheet, drawn, size, bounds }, payload) {
  if (!sheet) return drawn ? ["Its picture is not on this page."] : ["Its picture is not drawn."];
  const { low, high } = payload.input;
  return [
    ...(low === bounds[0] && high === bounds[1] ? [] : [`Black is ${formatNumber(bounds[0])}, white ${formatNumber(bounds[1])}.`]),
    ...(size.length === 2 && drawn && drawn[1] < size[1] ? [`Its picture has ${drawn.join(" x ")} pixels.`] : []),
    ...(size.length === 3 ? ["Its slices lie side by side."] : []),
    ...sheet.remarks,
  ];
}
