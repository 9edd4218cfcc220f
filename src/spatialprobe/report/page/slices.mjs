/**
 * Volumes: which slice of maps and input is shown, the sliders that choose it, and sections across the slices.
 */

/** @import { App } from "./app.mjs" */
/** @import { Input, Size } from "./data.mjs" */
/** @import { Box } from "./fields.mjs" */
/** @import { Unit } from "./values.mjs" */
import { currentChannel, currentUnit } from "./app.mjs";
import { element, outline, styleOf } from "./drawing.mjs";
import { boxAt } from "./fields.mjs";

const GAP_BETWEEN = 8; // CSS pixels between the slice and the sections
const THUMB = 16; // CSS pixels of a slider's thumb

/** @typedef {{ left: number, top: number, width: number, height: number }} Panel in CSS pixels */
/** @typedef {{ slice: Panel, side: Panel, below: Panel, scale: number }} Panels `side`: columns are slices, `below`: rows are; `scale`: CSS pixels for a voxel */

/** @param {Input} input a volume @param {Size} room @returns {Panels} */
export function layOutPanels({ depth, height, width }, room) {
  const scale = Math.max(0.1, Math.min((room.width - GAP_BETWEEN) / (width + depth), (room.height - GAP_BETWEEN) / (height + depth)));
  const [wide, tall, deep] = [width, height, depth].map((count) => Math.round(count * scale));
  return {
    slice: { left: 0, top: 0, width: wide, height: tall },
    side: { left: wide + GAP_BETWEEN, top: 0, width: deep, height: tall },
    below: { left: 0, top: tall + GAP_BETWEEN, width: wide, height: deep },
    scale,
  };
}

/** @param {App} app @returns {Unit} the voxel through which slice and sections go: the middle of the field, in the slice that the reader chose */
export function currentVoxel(app) {
  const { input } = app.payload;
  const box = boxAt(app.shown, currentChannel(app), currentUnit(app));
  /** @param {number | undefined} from @param {number | undefined} to @param {number} count @returns {number} */
  const middle = (from, to, count) => (from === undefined || to === undefined ? count >> 1 : (from + to - 1) >> 1);
  const found = { z: middle(box?.z0, box?.z1, input.depth), y: middle(box?.y0, box?.y1, input.height), x: middle(box?.x0, box?.x1, input.width) };
  return { ...found, z: app.slice ?? found.z };
}

/** @param {Input} input @param {number} z @returns {{ left: number, top: number }} where a slice begins on the volume's picture */
export function sliceOrigin({ columns, width, height }, z) {
  return { left: (z % columns) * width, top: Math.floor(z / columns) * height };
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Panels} panels @param {Unit} voxel The slice, and beside and below it the sections through a column and a row. */
export function drawPanels(app, drawing, { slice, side, below, scale }, { z, y, x }) {
  const { input } = app.payload;
  const picture = app.over ?? app.pictures[app.state.image];
  const { height, width, depth } = input;
  drawing.imageSmoothingEnabled = scale * (window.devicePixelRatio || 1) < 1;
  const { left, top } = sliceOrigin(input, z);
  drawing.drawImage(picture, left, top, width, height, slice.left, slice.top, slice.width, slice.height);
  for (let k = 0; k < depth; k++) {
    const from = sliceOrigin(input, k);
    const [x0, x1, y0, y1] = [k, k + 1].map((one) => Math.round((one * side.width) / depth)).concat([k, k + 1].map((one) => Math.round((one * below.height) / depth)));
    drawing.drawImage(picture, from.left + x, from.top, 1, height, side.left + x0, side.top, x1 - x0, side.height);
    drawing.drawImage(picture, from.left, from.top + y, width, 1, below.left, below.top + y0, below.width, y1 - y0);
  }
}

/** @param {App} app @param {CanvasRenderingContext2D} drawing @param {Panels} panels @param {Box | null} box @param {number} z the slice that is shown Lines where slice and sections lie, and the box in each of the three. */
export function drawBoxes(app, drawing, { slice, side, below, scale }, box, z) {
  const { input } = app.payload;
  drawing.fillStyle = styleOf(app, "--accent");
  const at = (z + 0.5) * scale;
  drawing.fillRect(side.left + at - 1, side.top, 2, side.height);
  drawing.fillRect(below.left, below.top + at - 1, below.width, 2);
  if (!box) return;
  const ends = { before: box.Z0 < 0, behind: box.Z1 > input.depth };
  const [up, down, left, right] = [box.Y0 < 0, box.Y1 > input.height, box.X0 < 0, box.X1 > input.width];
  const [x, y, deep] = [box.x0, box.y0, box.z0].map((one) => one * scale);
  const [wide, tall, thick] = [box.x1 - box.x0, box.y1 - box.y0, box.z1 - box.z0].map((one) => one * scale);
  drawing.globalAlpha = box.z0 <= z && z < box.z1 ? 1 : 0.35;
  outline(drawing, slice.left + x, slice.top + y, wide, tall, { top: up, bottom: down, left, right });
  drawing.globalAlpha = 1;
  outline(drawing, side.left + deep, side.top + y, thick, tall, { top: up, bottom: down, left: ends.before, right: ends.behind });
  outline(drawing, below.left + x, below.top + deep, wide, thick, { top: ends.before, bottom: ends.behind, left, right });
}

/** @param {Panels} panels @param {number} left @param {number} top CSS pixels @param {Unit} voxel through which slice and sections go @returns {Unit} the voxel there */
export function voxelAt({ slice, side, below, scale }, left, top, voxel) {
  const [across, down] = [Math.floor(left / scale), Math.floor(top / scale)];
  if (left >= side.left && top <= slice.height) return { ...voxel, z: Math.floor((left - side.left) / scale), y: down };
  if (top >= below.top && left <= slice.width) return { ...voxel, z: Math.floor((top - below.top) / scale), x: across };
  return { ...voxel, y: down, x: across };
}

/** @param {App} app The sliders of map and input, where these have slices, and the span of the field on that of the input. */
export function writeSliders(app) {
  const { input } = app.payload;
  const { layer } = app.shown;
  const unit = currentUnit(app);
  writeSlider("map-slice", layer.axes === 3 ? layer.depth : 0, unit.z, null);
  const box = boxAt(app.shown, currentChannel(app), unit);
  writeSlider("input-slice", input.axes === 3 ? input.depth : 0, currentVoxel(app).z, box);
}

/** @param {string} name @param {number} count of slices, 0 for none @param {number} z @param {Box | null} box whose slices are marked */
function writeSlider(name, count, z, box) {
  const label = element(`${name}-label`);
  label.hidden = !count;
  if (!count) return;
  const slider = /** @type {HTMLInputElement} */ (element(name));
  slider.max = `${count - 1}`;
  slider.disabled = count < 2;
  slider.value = `${z}`;
  slider.setAttribute("aria-valuetext", `Slice ${z} of ${count}`);
  element(`${name}-number`).textContent = `${z} of ${count}`;
  const band = /** @type {HTMLElement} */ (label.querySelector(".band"));
  band.hidden = !box;
  if (!box) return;
  /** @param {number} at @returns {string} */
  const place = (at) => `calc(${THUMB / 2}px + (100% - ${THUMB}px) * ${count > 1 ? at / (count - 1) : 0})`;
  band.style.left = `calc(${place(box.z0)} - 4px)`;
  band.style.right = `calc(100% - ${place(box.z1 - 1)} - 4px)`;
}
