/**
 * Two models on one page: the layers follow one another in versions, those of one model, of the other, and their difference.
 */

/** @import { App } from "./app.mjs" */
/** @import { Loaded, Unit } from "./values.mjs" */
import { currentChannel, loadLayer } from "./app.mjs";
import { scaleOf } from "./colors.mjs";
import { WHOLE, element, outline, paintMap, resizeCanvas } from "./drawing.mjs";
import { countVersions, groupOf } from "./groups.mjs";
import { fitInto, shapeOf } from "./layout.mjs";
import { drawLine } from "./lines.mjs";
import { numberOf } from "./values.mjs";
import { formatValue } from "./words.mjs";

const SMALLEST_FRAME = 7; // CSS pixels of the frame around a unit
const BETWEEN_VERSIONS = 8; // CSS pixels between maps
const LARGEST_VERSION = 92; // CSS pixels of a map's side

/** @param {App} app @param {number} layer @param {number} image @returns {Promise<[Loaded, Loaded[]]>} the layer, and all of its versions, which know how much each channel changed */
export async function loadShown(app, layer, image) {
  const count = countVersions(app.payload);
  const first = groupOf(app.payload, layer) * count;
  const found = await Promise.all(Array.from({ length: count }, (_, i) => loadLayer(app, first + i, image)));
  if (count > 1 && !found[0].changes) {
    const changes = changesOf(found[count - 1]);
    for (const one of found) one.changes = changes;
  }
  return [found[layer % count], found];
}

/** @param {Loaded} difference @returns {Float64Array} how much each channel changed: the mean square of its values */
export function changesOf(difference) {
  const { codes, units, codeBook } = difference;
  return Float64Array.from({ length: difference.count }, (_, channel) => {
    const [low, high] = [difference.low[channel], difference.high[channel]];
    let sum = 0;
    for (let at = channel * units; at < (channel + 1) * units; at++) {
      if (codes[at] === codeBook.nonfinite) continue;
      sum += (low + (codes[at] / codeBook.steps) * (high - low)) ** 2;
    }
    return sum / units;
  });
}

/** @param {Loaded} one @param {number} channel @param {Loaded} other @returns {number} the place of the same channel in another version, or -1 */
function sameChannel(one, channel, other) {
  if (!one.layer.channels && !other.layer.channels) return channel;
  const number = numberOf(one, channel);
  return other.layer.channels ? other.layer.channels.indexOf(number) : number;
}

/** @param {App} app @param {Unit} unit The chosen channel in every version, with the unit framed. */
export function drawVersions(app, { z, y, x }) {
  const { siblings } = app;
  const versions = element("versions");
  versions.hidden = siblings.length < 2;
  if (versions.hidden) return;
  const room = Math.min(LARGEST_VERSION, (versions.clientWidth - BETWEEN_VERSIONS * (siblings.length - 1)) / siblings.length);
  siblings.forEach((loaded, i) => {
    const button = /** @type {HTMLButtonElement} */ (versions.children[i]);
    const channel = sameChannel(app.shown, currentChannel(app), loaded);
    button.setAttribute("aria-pressed", `${loaded.index === app.shown.index}`);
    const row = Math.floor(((y + 0.5) * loaded.layer.height) / app.shown.layer.height); // large pages may hold fewer of its rows
    const column = Math.floor(((x + 0.5) * loaded.layer.width) / app.shown.layer.width);
    const unit = { z, y: row, x: column };
    button.children[2].textContent = channel < 0 ? "not kept" : formatValue(loaded, channel, unit);
    if (channel >= 0) drawVersion(app, /** @type {HTMLCanvasElement} */ (button.firstChild), loaded, channel, room, unit);
  });
}

/** @param {App} app @param {HTMLCanvasElement} canvas @param {Loaded} loaded @param {number} channel @param {number} room @param {Unit} unit */
function drawVersion(app, canvas, loaded, channel, room, { z, y, x }) {
  const { layer } = loaded;
  const line = layer.axes === 1;
  const size = fitInto(shapeOf(layer, app.payload.input), room, room);
  const drawing = resizeCanvas(canvas, size.width, size.height);
  drawing.imageSmoothingEnabled = layer.width > size.width;
  if (line) drawLine(app, drawing, loaded, channel, scaleOf(loaded, channel, app.state.scale, app.payload, app.palettes), { left: 0, top: 0, ...size });
  else drawing.drawImage(paintMap(app, loaded, channel, app.state.scale, z), 0, 0, size.width, size.height);
  const [across, down] = [size.width / layer.width, size.height / layer.height];
  const [width, height] = [Math.max(across, SMALLEST_FRAME), line ? size.height - 6 : Math.max(down, SMALLEST_FRAME)];
  outline(drawing, Math.max(3, (x + 0.5) * across - width / 2), Math.max(3, (y + 0.5) * down - height / 2), width, height, WHOLE);
}

/** @param {App} app Make a button for each version. */
export function buildVersions(app) {
  const names = app.payload.versions ?? [];
  element("versions").replaceChildren(...names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = `Show ${name}`;
    button.append(document.createElement("canvas"), ...["span", "b"].map((tag) => document.createElement(tag)));
    button.children[1].textContent = name;
    return button;
  }));
}
