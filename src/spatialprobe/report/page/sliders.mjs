/**
 * Sliders and keys that move through the slices of volumes.
 */

/** @import { App } from "./app.mjs" */
import { currentUnit } from "./app.mjs";
import { element } from "./drawing.mjs";
import { clamp } from "./state.mjs";
import { change, showUnit } from "./view.mjs";

/** @param {App} app @param {string} key @returns {boolean} whether it moves the unit to another slice */
export function moveSlice(app, key) {
  const step = { ArrowUp: -1, ArrowDown: 1 }[key];
  if (!step || app.shown.layer.axes !== 3) return false;
  const { z, y, x } = currentUnit(app);
  change(app, { z: clamp(z + step, app.shown.layer.depth), y, x });
  return true;
}

/** @param {App} app The sliders: of the map's slice, which is its unit's, and of the input's. */
export function listenToSliders(app) {
  const [map, input] = ["map-slice", "input-slice"].map((name) => /** @type {HTMLInputElement} */ (element(name)));
  map.addEventListener("input", () => change(app, { z: Number(map.value), y: app.state.y, x: app.state.x }));
  input.addEventListener("input", () => {
    app.slice = Number(input.value);
    showUnit(app);
  });
}
