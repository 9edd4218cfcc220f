/**
 * The layers as a strip of thumbnails, and the images beside the controls.
 */

/** @import { App } from "./app.mjs" */
/** @import { LayerEntry, Size } from "./data.mjs" */
/** @import { Region } from "./pixel.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { loadLayer, loadSignal } from "./app.mjs";
import { drawChannelBars } from "./bars.mjs";
import { scaleOf } from "./colors.mjs";
import { WHOLE, element, hatch, outline, paintMap, resizeCanvas } from "./drawing.mjs";
import { fitInto, shapeOf } from "./layout.mjs";
import { drawLine, drawSignal } from "./lines.mjs";
import { payloadOf } from "./sizes.mjs";
import { sliceOrigin } from "./slices.mjs";
import { findRichestChannel } from "./values.mjs";
import { countVersions, groupOf, inGroup, layerNames } from "./groups.mjs";
import { formatCount, unitsOf } from "./words.mjs";

const PATIENCE = 100; // milliseconds that a thumbnail waits for an idle browser
const THUMBNAIL = { width: 56, height: 32 }; // CSS pixels of a signal's lines
const ROOM = { width: 84, height: 46 }; // CSS pixels of a thumbnail

/** @param {App} app */
export function buildStrip(app) {
  const { layers, images } = app.payload;
  const count = countVersions(app.payload);
  const names = layerNames(app.payload);
  element("strip").replaceChildren(...layers.filter((_, i) => i % count === 0).map((layer, depth) => {
    const button = buttonOf(document.createElement("canvas"), lineOf(names[depth], "name"), lineOf("", ""));
    button.title = `${names[depth]}: ${layer.kind}, ${formatCount(layer.of, "channel")}${isSingle(layer) ? ", their values as bars" : ""}`;
    return button;
  }));
  writeStrip(app);
  const shown = images.length > 1 ? images : [];
  element("images").replaceChildren(...shown.map((image, number) => {
    const button = buttonOf(app.payload.input.axes === 2 ? pictureOf(app, number) : thumbnailOfInput(app, number));
    button.title = image.name;
    return button;
  }));
}

/** @param {App} app Write what depends on the size of the image: how many units each layer has. */
export function writeStrip(app) {
  const count = countVersions(app.payload);
  [...element("strip").children].forEach((button, depth) => {
    const layer = app.payload.layers[depth * count];
    button.children[2].textContent = `#${depth + 1} · ${unitsOf(layer).join(" × ")} · sees ${shorten(layer.field.size)}`;
  });
}

/** @param {App} app @param {number} number of an image @returns {HTMLImageElement} */
function pictureOf(app, number) {
  const picture = new Image();
  picture.src = app.pictures[number].src;
  picture.alt = `Image ${app.payload.images[number].name}`;
  return picture;
}

/** @param {App} app @param {number} number of a volume, or a signal @returns {HTMLCanvasElement} its middle slice, or its lines, once it is unpacked */
function thumbnailOfInput(app, number) {
  const { input, images } = payloadOf(app.sizes, number);
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Image ${images[number].name}`);
  if (input.axes === 1) {
    loadSignal(app, number).then(() => drawSignal(app, resizeCanvas(canvas, THUMBNAIL.width, THUMBNAIL.height), app.signals[number], THUMBNAIL));
    return canvas;
  }
  Object.assign(canvas, { width: input.width, height: input.height });
  const { left, top } = sliceOrigin(input, input.depth >> 1);
  app.pictures[number].decode().then(() => canvas.getContext("2d")?.drawImage(app.pictures[number], -left, -top));
  return canvas;
}

/** @param {number[]} size @returns {string} one number where all are alike */
function shorten(size) {
  return size.every((one) => one === size[0]) ? `${size[0]}` : size.join(" × ");
}

/** @param {...HTMLElement} content @returns {HTMLButtonElement} */
function buttonOf(...content) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...content);
  return button;
}

/** @param {string} text @param {string} name of its class @returns {HTMLSpanElement} */
function lineOf(text, name) {
  const line = document.createElement("span");
  line.className = name;
  line.textContent = text;
  return line;
}

/** @param {App} app Mark the layer and the image that are shown, and bring them into view. */
export function markStrip(app) {
  markCurrent(element("strip"), groupOf(app.payload, app.state.layer));
  markCurrent(element("images"), app.state.image);
}

/** @param {HTMLElement} row of buttons @param {number} current */
function markCurrent(row, current) {
  [...row.children].forEach((one, i) => {
    const button = /** @type {HTMLButtonElement} */ (one);
    button.tabIndex = i === current ? 0 : -1;
    if (i === current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    if (i !== current) return;
    const { offsetLeft, offsetWidth } = button;
    const from = offsetLeft - row.offsetLeft - 40;
    if (from < row.scrollLeft || from + offsetWidth + 80 > row.scrollLeft + row.clientWidth) row.scrollLeft = from;
  });
}

/** @param {LayerEntry} layer @returns {boolean} whether its maps are of one unit */
function isSingle(layer) {
  return unitsOf(layer).every((count) => count === 1);
}

/** @param {App} app @param {number} index of a layer Draw its richest channel, or a bar for each channel where maps are of one unit. */
export async function drawThumbnail(app, index) {
  const { image, scale } = app.state;
  const loaded = await loadLayer(app, index, image);
  if (app.state.image !== image) return;
  const single = isSingle(loaded.layer);
  const size = single ? ROOM : fitInto(shapeOf(loaded.layer, app.payload.input), ROOM.width, ROOM.height);
  const drawing = resizeCanvas(thumbnailOf(groupOf(app.payload, index)), size.width, size.height);
  if (single) drawChannelBars(app, drawing, loaded, scaleOf(loaded, 0, scale === "map" ? "layer" : scale, app.payload, app.palettes), size);
  else drawRichest(app, drawing, loaded, size);
  const region = app.regions[index];
  if (region) outlineRegion(drawing, region, size.width / loaded.layer.units[1], size.height / loaded.layer.units[0]);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Loaded} loaded @param {Size} size Draw the layer's richest channel. */
function drawRichest(app, drawing, loaded, size) {
  const { scale } = app.state;
  const channel = findRichestChannel(loaded);
  const line = loaded.layer.axes === 1;
  drawing.imageSmoothingEnabled = loaded.layer.width > size.width;
  if (line) drawLine(app, drawing, loaded, channel, scaleOf(loaded, channel, scale, app.payload, app.palettes), { left: 0, top: 0, ...size });
  else drawing.drawImage(paintMap(app, loaded, channel, scale), 0, 0, size.width, size.height);
  if (loaded.marks[channel] === "dead") hatch(drawing, 0, 0, size.width, size.height);
}

/** @param {App} app @returns {Promise<void>} when every layer's thumbnail is drawn, one at a time, those next to the layer shown first */
export async function drawThumbnails(app) {
  const mine = ++app.round;
  const { layer } = app.state;
  const nearest = layerNames(app.payload).map((_, group) => inGroup(app.payload, group, layer)).sort((a, b) => Math.abs(a - layer) - Math.abs(b - layer));
  for (const index of nearest) {
    await drawThumbnail(app, index);
    await new Promise((done) => ("requestIdleCallback" in window ? requestIdleCallback(done, { timeout: PATIENCE }) : setTimeout(done)));
    if (mine !== app.round) return;
  }
}

/** @param {CanvasRenderingContext2D} drawing @param {Region} region @param {number} across CSS pixels a unit @param {number} down */
export function outlineRegion(drawing, region, across, down) {
  const width = Math.max(4, (region.x1 - region.x0) * across);
  const height = Math.max(4, (region.y1 - region.y0) * down);
  outline(drawing, region.x0 * across, region.y0 * down, width, height, WHOLE);
}

/** @param {number} index @returns {HTMLCanvasElement} */
function thumbnailOf(index) {
  return /** @type {HTMLCanvasElement} */ (element("strip").children[index].firstChild);
}
