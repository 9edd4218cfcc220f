/**
 * The top-activating samples of a channel: the patches that its strongest units saw.
 */

/** @import { App } from "./app.mjs" */
/** @import { PackedPatches } from "./data.mjs" */
/** @import { Box } from "./fields.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { currentChannel } from "./app.mjs";
import { element, hatch, resizeCanvas, styleOf } from "./drawing.mjs";
import { boxOf, isCut } from "./fields.mjs";
import { layOutPatches } from "./layout.mjs";
import { numberOf } from "./values.mjs";
import { describeUnitPlace, formatCount, formatNumber } from "./words.mjs";

const PATCH_GAP = 8;
const LABELED = 76; // CSS pixels in which most labels can be read

/** @typedef {{ channel: number, rank: number, sample: number, z: number, y: number, x: number, value: number, box: Box | null }} Place where a channel was strongest in a sample */

/** @param {Loaded} loaded @param {number} channel @returns {Place[]} where the channel was strongest, the strongest first */
export function placesOf(loaded, channel) {
  const { places, values, layer } = loaded;
  const count = layer.sweep?.columns;
  if (!places || !values || !count) return [];
  const each = places.length / values.length;
  const found = Array.from({ length: count }, (_, rank) => {
    const at = channel * count + rank;
    const [sample, y, x, z = 0] = places.subarray(each * at, each * at + each);
    return { channel, rank, sample, z, y, x, value: values[at], box: sample < 0 || layer.sweep?.hasBoxes === false ? null : boxOf(loaded, channel, y, x, z) };
  });
  return found.filter((one) => one.sample >= 0);
}

/** @param {App} app @param {Place} place @returns {HTMLImageElement | null} the sample's whole image, null where the page does not hold it */
export function sampleImage(app, place) {
  const { samples } = app.payload;
  if (!samples || !(place.sample in samples)) return null;
  const found = app.cache.samples.get(place.sample) ?? new Image();
  if (!found.src) found.src = samples[place.sample][0];
  app.cache.samples.set(place.sample, found);
  return found;
}

/** @param {App} app @param {Place} place @returns {string} what the data set calls the sample, or nothing */
export function sampleLabel(app, place) {
  return app.payload.samples?.[place.sample]?.[1] ?? "";
}

/** @param {App} app @param {Loaded} loaded @param {Place} place @returns {boolean} whether the page holds the pixels that the unit saw */
export function hasPatch(app, loaded, place) {
  return Boolean(place.box) && (isOnSheet(loaded, place) || place.sample in (app.payload.samples ?? {}));
}

/** @param {Loaded} loaded @param {Place} place @returns {boolean} whether the layer's sheet has its patch */
function isOnSheet(loaded, place) {
  return place.rank < (loaded.layer.sweep?.patches?.ranks ?? 0);
}

/** @param {App} app @param {Place[]} places @param {() => void} draw called at once, or when the whole images that are needed can be drawn */
export function whenDecoded(app, places, draw) {
  const images = places.filter((place) => !isOnSheet(app.shown, place)).map((place) => sampleImage(app, place));
  const late = images.filter((image) => image && !image.complete);
  if (late.length) Promise.all(late.map((image) => image?.decode())).then(draw);
  else draw();
}

/** @param {App} app */
export function drawExemplars(app) {
  const { sweep } = app.shown.layer;
  element("exemplars").hidden = element("exemplar-words").hidden = !sweep || !sweep.values;
  if (!sweep || !sweep.values) return;
  const places = placesOf(app.shown, currentChannel(app));
  const listed = places.map((one) => `${formatNumber(one.value)} in ${describePlace(one, app.shown.layer.axes)}`).join("; ");
  const pictured = places.some((place) => hasPatch(app, app.shown, place));
  element("exemplar-words").textContent = describeExemplars(app, places, pictured ? "" : listed);
  const group = element("exemplar-picture");
  group.hidden = !pictured;
  if (!pictured) return;
  group.setAttribute("aria-label", `Patches of channel ${numberOf(app.shown, currentChannel(app))}`);
  const { tile, columns } = layOutPatches(places.length, group.clientWidth, PATCH_GAP);
  const across = columns === places.length && places.some((place) => sampleLabel(app, place)) ? columnsOfLabels(columns, tile) : columns;
  group.style.gridTemplateColumns = `repeat(${across}, minmax(${tile}px, ${LABELED}px))`;
  const factor = tile / longestSide(places);
  group.replaceChildren(...places.map((place) => {
    const button = buttonOfPatch(app, place);
    const drawing = resizeCanvas(/** @type {HTMLCanvasElement} */ (button.children[1]), tile, tile);
    whenDecoded(app, [place], () => drawPatch(app, drawing, place, 0, 0, factor));
    return button;
  }));
}

/** @param {number} columns in one row @param {number} tile @returns {number} columns in which labels can be read: half of them, where patches are narrow */
function columnsOfLabels(columns, tile) {
  return tile < LABELED ? Math.ceil(columns / 2) : columns;
}

/** @param {Place} place @param {number} axes @returns {string} */
function describePlace(place, axes) {
  return `sample ${place.sample} at ${axes === 1 ? "unit " : ""}${describeUnitPlace(place, axes)}`;
}

/** @param {App} app @param {Place} place @returns {HTMLButtonElement} its value, its patch and its sample's name */
function buttonOfPatch(app, place) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "patch";
  const label = sampleLabel(app, place);
  button.setAttribute("aria-label", [`${formatNumber(place.value)} in ${describePlace(place, app.shown.layer.axes)}`, label].filter(Boolean).join(", "));
  if (label) button.title = label;
  button.dataset.rank = `${place.rank}`;
  const [value, name] = [document.createElement("span"), document.createElement("small")];
  value.textContent = formatNumber(place.value, 3);
  const slice = place.box && app.payload.input.axes === 3 ? `z${(place.box.z0 + place.box.z1 - 1) >> 1}` : "";
  name.textContent = [`#${place.sample}`, slice, label].filter(Boolean).join(" ");
  button.append(value, document.createElement("canvas"), name);
  return button;
}

/** @param {App} app @param {Place[]} places @param {string} listed in words what has no picture @returns {string} */
function describeExemplars(app, places, listed) {
  const { sweep } = app.shown.layer;
  const samples = formatCount(sweep?.samples ?? 0, "sample");
  const seen = listed ? "" : ", and what they see";
  const words = [`The ${formatCount(places.length, "unit")} with the largest values among ${samples}, one a sample${seen}.`];
  if (listed) return `${words[0]} ${listed}.`;
  words.push(...(sweep?.patches?.remarks ?? ["Patches are cut from whole images, which are stored with loss."]));
  if (places.some(({ box }) => box && isCut(box, app.payload.input))) words.push("Hatched: padding.");
  if (!places.every((place) => hasPatch(app, app.shown, place))) words.push("Dotted: not on this page.");
  return words.join(" ");
}

/** @param {Place[]} places @returns {number} pixels of the input along the longest side of what they see */
export function longestSide(places) {
  return Math.max(1, ...places.map(({ box }) => (box ? Math.max(box.Y1 - box.Y0, box.X1 - box.X0) : 1)));
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Place} place @param {number} left @param {number} top @param {number} factor CSS pixels for a pixel of the input */
export function drawPatch(app, drawing, place, left, top, factor) {
  const { box } = place;
  if (!box) return;
  const patches = app.shown.layer.sweep?.patches;
  drawing.imageSmoothingEnabled = factor < 1;
  if (patches?.axes === 1 && isOnSheet(app.shown, place)) {
    drawLines(app, drawing, place, patches, left, top, factor * longestSide(placesOf(app.shown, place.channel)));
    return;
  }
  if (patches && isOnSheet(app.shown, place)) drawFromSheet(app, drawing, place, box, patches, left, top, factor);
  else drawFromImage(app, drawing, place, box, left, top, factor);
  const { input } = app.payload;
  const height = (box.Y1 - box.Y0) * factor;
  const width = (box.X1 - box.X0) * factor;
  const above = Math.max(0, -box.Y0) * factor;
  const below = Math.max(0, box.Y1 - input.height) * factor;
  const before = Math.max(0, -box.X0) * factor;
  const after = Math.max(0, box.X1 - input.width) * factor;
  hatch(drawing, left, top, width, above);
  hatch(drawing, left, top + height - below, width, below);
  hatch(drawing, left, top + above, before, height - above - below);
  hatch(drawing, left + width - after, top + above, after, height - above - below);
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Place} place @param {PackedPatches} patches of signals @param {number} left @param {number} top @param {number} side CSS pixels The lines of a signal, in the middle of a square. */
function drawLines(app, drawing, place, patches, left, top, side) {
  const { cell, tall = cell } = patches;
  const scale = side / Math.max(cell, tall);
  const at = place.channel * patches.ranks + place.rank;
  drawing.imageSmoothingEnabled = true;
  drawing.drawImage(
    /** @type {HTMLImageElement} */ (app.shown.sheet),
    (at % patches.columns) * cell, Math.floor(at / patches.columns) * tall, cell, tall,
    left, top + (side - tall * scale) / 2, cell * scale, tall * scale,
  );
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Place} place @param {Box} box @param {PackedPatches} patches @param {number} left @param {number} top @param {number} factor */
function drawFromSheet(app, drawing, place, box, patches, left, top, factor) {
  const at = place.channel * patches.ranks + place.rank;
  const { every = 1 } = patches;
  const [width, height] = [box.X1 - box.X0, box.Y1 - box.Y0];
  drawing.drawImage(
    /** @type {HTMLImageElement} */ (app.shown.sheet),
    (at % patches.columns) * patches.cell, Math.floor(at / patches.columns) * patches.cell,
    Math.ceil(width / every), Math.ceil(height / every), left, top, width * factor, height * factor,
  );
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Place} place @param {Box} box @param {number} left @param {number} top @param {number} factor */
function drawFromImage(app, drawing, place, box, left, top, factor) {
  const image = sampleImage(app, place);
  if (!image) {
    drawing.strokeStyle = styleOf(app, "--quiet");
    drawing.setLineDash([1, 4]);
    drawing.strokeRect(left + 0.5, top + 0.5, (box.X1 - box.X0) * factor - 1, (box.Y1 - box.Y0) * factor - 1);
    drawing.setLineDash([]);
    return;
  }
  const stored = image.naturalWidth / app.payload.input.width;
  const down = image.naturalHeight / app.payload.input.height;
  drawing.drawImage(
    image,
    box.x0 * stored, box.y0 * down, (box.x1 - box.x0) * stored, (box.y1 - box.y0) * down,
    left + (box.x0 - box.X0) * factor, top + (box.y0 - box.Y0) * factor,
    (box.x1 - box.x0) * factor, (box.y1 - box.y0) * factor,
  );
}
