/**
 * From a changed state to what the page shows: everything, one channel, or one unit.
 */

/** @import { App } from "./app.mjs" */
/** @import { Wall, Wish } from "./state.mjs" */
import { currentChannel, currentUnit } from "./app.mjs";
import { writeAddress } from "./address.mjs";
import { writeTap } from "./arithmetic.mjs";
import { drawKernel, writeNumbers } from "./details.mjs";
import { element, paintMaps } from "./drawing.mjs";
import { drawExemplars } from "./exemplars.mjs";
import { drawConcepts } from "./concepts.mjs";
import { drawContributions } from "./contributions.mjs";
import { drawMosaic, frameChosen, offersWall, wallOf } from "./mosaic.mjs";
import { loadOver, writeOver } from "./over.mjs";
import { writePixel } from "./photo.mjs";
import { payloadOf } from "./sizes.mjs";
import { nextState } from "./state.mjs";
import { writeSliders } from "./slices.mjs";
import { drawThumbnail, markStrip, writeStrip } from "./strip.mjs";
import { drawSynthesis } from "./synthesis.mjs";
import { numberOf, orderChannels } from "./values.mjs";
import { groupOf } from "./groups.mjs";
import { drawVersions, loadShown } from "./versions.mjs";
import { drawBar, drawInput, drawMap, markBar } from "./views.mjs";
import { describeChannel, describeChannels, describeLayer, describeOrder, describeUnit } from "./words.mjs";

/** What of the state changes more than one channel. */
const ANEW = /** @type {const} */ (["scale", "order", "wall", "over", "z"]);

/** @param {App} app @param {Wish} wish @returns {Promise<void>} when it is shown, or given up for a newer wish */
export async function change(app, wish) {
  const mine = ++app.request;
  const started = performance.now();
  app.asked = { ...app.asked, ...wish };
  const { layer, image, over } = { ...app.state, ...app.asked };
  const before = app.shown ?? null;
  const here = before && before.index === layer && before.image === image;
  const [found, siblings] = here ? [before, app.siblings] : await loadShown(app, layer, image);
  const under = here && over === app.state.over ? app.over : await loadOver(app, layer, image, over);
  if (mine !== app.request) return;
  turnToSize(app, image);
  const next = nextState(app.state, app.asked, found, app.shown ?? null, app.payload.input);
  const anew = found !== app.shown || under !== app.over || ANEW.some((name) => next[name] !== app.state[name]);
  const other = next.channel !== currentChannel(app);
  Object.assign(app, { state: next, asked: {}, shown: found, siblings, over: under, preview: null, peek: null, slice: null });
  if (anew) showAll(app);
  else if (other) showChannel(app);
  else showUnit(app);
  if (anew) performance.measure("spatialprobe redraw", { start: started });
}

/** @param {App} app @param {number} image Where it has another size, layers have other units, and a pixel that was clicked is no more. */
function turnToSize(app, image) {
  const payload = payloadOf(app.sizes, image);
  if (payload === app.payload) return;
  Object.assign(app, { payload, pixel: null, regions: [] });
  writeStrip(app);
}

/** @param {App} app */
export function showAll(app) {
  const { state } = app;
  for (const name of /** @type {const} */ (["layer", "image", "scale", "order", "over"])) {
    const value = name === "layer" ? groupOf(app.payload, state.layer) : state[name];
    /** @type {HTMLSelectElement} */ (element(name)).value = `${value}`;
  }
  app.order = orderChannels(app.shown, state.order);
  markStrip(app);
  drawThumbnail(app, state.layer);
  writeLayer(app);
  drawMosaic(app);
  showChannel(app);
  writeOver(app);
}

/** @param {App} app */
export function showChannel(app) {
  app.mapPicture = paintMaps(app, 1, 1, [currentChannel(app)]);
  if (app.peek === null) frameChosen(app);
  writeChannel(app);
  showUnit(app);
  drawBar(app);
  drawKernel(app);
  writeNumbers(app);
  drawContributions(app);
  drawSynthesis(app);
  drawExemplars(app);
  drawConcepts(app);
  writePixel(app, ({ channel, z, y, x }) => change(app, { channel, z, y, x }));
}

/** @param {App} app */
export function showUnit(app) {
  const unit = currentUnit(app);
  drawMap(app, unit);
  drawInput(app, unit);
  writeSliders(app);
  markBar(app, unit);
  drawVersions(app, unit);
  const words = describeUnit(app.shown, app.payload, currentChannel(app), unit);
  const status = element("status");
  if (status.textContent !== words) status.replaceChildren(...words.split(/(\d+-\d+)/).map(unbroken));
  writeTap(app);
  writeAddress(app);
}

/** @param {App} app */
function writeLayer(app) {
  const { layer, marks } = app.shown;
  element("layer-title").textContent = layer.name;
  element("layer-words").textContent = describeLayer(app.shown, app.payload.input);
  element("order-words").textContent = describeOrder(marks, app.state.order);
  writeWall(app);
  const label = `Mosaic of ${describeChannels(app.shown)} of ${layer.name}. Arrow keys choose the channel.`;
  element("mosaic").setAttribute("aria-label", label);
}

/** @param {App} app Offer what the mosaic can show of this layer. */
function writeWall(app) {
  const buttons = /** @type {HTMLButtonElement[]} */ ([...element("wall").children]);
  for (const one of buttons) {
    const wall = /** @type {Wall} */ (one.value);
    one.hidden = !offersWall(app, wall);
    one.setAttribute("aria-pressed", `${wall === wallOf(app)}`);
  }
  element("wall").hidden = buttons.filter((one) => !one.hidden).length < 2;
}

/** @param {App} app */
function writeChannel(app) {
  const { layer, marks } = app.shown;
  const channel = currentChannel(app);
  const number = numberOf(app.shown, channel);
  const { name, answer } = app.payload.images[app.state.image];
  element("channel-title").textContent = describeChannel(number, marks[channel]);
  const keys = "Arrow keys move the unit, Page Up and Page Down change the channel.";
  element("map").setAttribute("aria-label", `Feature map of ${layer.name}, channel ${number}. ${keys}`);
  element("input-title").textContent = `Input ${["signal", "image", "volume"][app.payload.input.axes - 1]} ${name}`;
  element("slice-keys").hidden = app.shown.layer.axes !== 3 && app.payload.input.axes !== 3;
  element("answer").textContent = answer ? `${app.siblings.length > 1 ? "The models' answers" : "The model's answer"}: ${answer}` : "";
}

/** @param {string} text @param {number} i @returns {string | HTMLElement} every second piece, a range of numbers, in one line */
function unbroken(text, i) {
  if (i % 2 === 0) return text;
  const span = document.createElement("span");
  span.className = "unbroken";
  span.textContent = text;
  return span;
}
