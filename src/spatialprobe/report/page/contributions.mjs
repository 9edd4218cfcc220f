/**
 * What each channel contributes to the score: bars in the order of the mosaic, dots for what ablating it alone did.
 */

/** @import { App } from "./app.mjs" */
/** @import { Loaded } from "./values.mjs" */
/** @import { Score } from "./data.mjs" */
import { currentChannel } from "./app.mjs";
import { canvasOf, element, resizeCanvas, styleOf } from "./drawing.mjs";
import { signColors } from "./over.mjs";
import { numberOf } from "./values.mjs";
import { formatCount, formatNumber, formatSigned } from "./words.mjs";

const HEIGHT = 104; // CSS pixels of the bars
const SPACE = 8; // above and below them
const NUMBERS = 60; // beside them

/** @param {Loaded} loaded @returns {[number, number]} the least and the greatest contribution or fall of the score, and zero between them */
export function rangeOfContributions({ contributions, ablated }) {
  let [least, greatest] = [0, 0];
  for (const values of [contributions, ablated]) {
    for (const value of values ?? []) {
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
  }
  return [least, greatest];
}

/** @param {App} app The contributions to the score of the image that is shown; hidden where the page has none. */
export function drawContributions(app) {
  const { shown, state } = app;
  const { score, images } = app.payload;
  element("contributions").hidden = !score;
  if (!score) return;
  const words = describeContribution(shown, score, currentChannel(app));
  element("contribution-words").textContent = words;
  element("check-words").textContent = shown.layer.contributions?.checks[state.image] ?? "";
  const canvas = canvasOf("bars");
  canvas.hidden = element("bars-words").hidden = !shown.contributions;
  if (!shown.contributions) return;
  element("bars-words").textContent = describeBars(shown);
  canvas.setAttribute("aria-label", `Contributions of ${formatCount(shown.count, "channel")} to ${score.words[state.image]} of image ${images[state.image].name}. ${words} Arrow keys change the channel.`);
  drawBars(app, shown.contributions);
}

/** @param {App} app @param {Float32Array} contributions */
function drawBars(app, contributions) {
  const width = element("contributions").clientWidth;
  const step = (width - NUMBERS) / app.order.length;
  const drawing = resizeCanvas(canvasOf("bars"), width, HEIGHT);
  const [least, greatest] = rangeOfContributions(app.shown);
  const tall = (HEIGHT - 2 * SPACE) / (greatest - least || 1);
  /** @param {number} value */
  const levelOfValue = (value) => SPACE + (greatest - value) * tall;
  const [against, speaking] = signColors(app.palettes);
  const wide = Math.max(1, step - (step > 4 ? 2 : step > 2 ? 1 : 0));
  const current = currentChannel(app);
  drawing.fillStyle = styleOf(app, "--soft");
  drawing.fillRect(app.order.indexOf(current) * step - 1, 0, wide + 2, HEIGHT);
  app.order.forEach((channel, i) => {
    const value = contributions[channel];
    drawing.fillStyle = value < 0 ? against : speaking;
    drawing.fillRect(i * step, Math.min(levelOfValue(0), levelOfValue(value)), wide, Math.max(0.5, Math.abs(value) * tall));
  });
  drawing.fillStyle = styleOf(app, "--ink");
  const radius = Math.min(3, Math.max(1, wide / 2.5));
  app.order.forEach((channel, i) => {
    const value = app.shown.ablated ? app.shown.ablated[channel] : NaN;
    if (Number.isNaN(value)) return;
    drawing.beginPath();
    drawing.arc(i * step + wide / 2, levelOfValue(value), radius, 0, 2 * Math.PI);
    drawing.fill();
  });
  frameBar(app, drawing, app.order.indexOf(current) * step, wide);
  writeAxis(app, drawing, width, [greatest, 0, least].map((value) => [value, levelOfValue(value)]));
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {number} left @param {number} wide */
function frameBar(app, drawing, left, wide) {
  drawing.strokeStyle = styleOf(app, "--accent");
  drawing.lineWidth = 1.5;
  drawing.strokeRect(Math.max(0.75, left - 1), 0.75, wide + 2, HEIGHT - 1.5);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {number} width @param {number[][]} marks values and their heights, of which those too near to zero are left out */
function writeAxis(app, drawing, width, marks) {
  drawing.font = "11px system-ui, sans-serif";
  drawing.textAlign = "right";
  drawing.textBaseline = "middle";
  drawing.fillStyle = styleOf(app, "--quiet");
  const zero = marks[1][1];
  drawing.fillRect(0, zero - 0.5, width - NUMBERS + 4, 1);
  for (const [value, y] of marks) {
    if (y === zero || Math.abs(y - zero) > 12) drawing.fillText(formatSigned(value), width, Math.min(Math.max(y, 6), HEIGHT - 6));
  }
}

/** @param {App} app @param {number} left CSS pixels in the picture of the bars @returns {number} the channel there, or -1 */
export function barAt(app, left) {
  const step = (element("contributions").clientWidth - NUMBERS) / app.order.length;
  return app.order[Math.floor(left / step)] ?? -1;
}

/** @param {Loaded} loaded @returns {string} */
function describeBars({ layer, ablated }) {
  const measured = ablated ? ablated.reduce((count, value) => count + (Number.isNaN(value) ? 0 : 1), 0) : 0;
  const some = measured < layer.of ? `, measured for the ${measured} that contribute most` : "";
  return `Bars: gradient times activation, in the order of the mosaic; violet speaks for the score, orange against it. Dots: how far the score falls when that channel alone is ablated${some}.`;
}

/** @param {Loaded} loaded @param {Score} score @param {number} channel @returns {string} what a channel contributes, and what ablating it alone did */
export function describeContribution(loaded, score, channel) {
  const { contributions, ablated, layer, image } = loaded;
  const [name, value] = [score.words[image], formatSigned(score.values[image])];
  const found = `${name[0].toUpperCase()}${name.slice(1)} is ${value}.`;
  if (!contributions || !ablated) return `${found} It does not depend on ${layer.name}.`;
  const mine = contributions[channel];
  const rank = 1 + contributions.reduce((count, one) => count + (one > mine ? 1 : 0), 0);
  const place = layer.channels ? "" : `, number ${rank} of ${loaded.count}`;
  const fall = ablated[channel];
  const alone = Number.isNaN(fall)
    ? "What ablating it alone does was not measured."
    : `When it alone is ablated, the score ${fall < 0 ? "rises" : "falls"} by ${formatNumber(Math.abs(fall), 3)}.`;
  return `${found} Channel ${numberOf(loaded, channel)} contributes ${formatSigned(mine)}${place}. ${alone}`;
}
