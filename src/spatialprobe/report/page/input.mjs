/**
 * Mouse, touch and keys: what the reader does, as wishes.
 */

/** @import { App } from "./app.mjs" */
/** @import { Order } from "./values.mjs" */
/** @import { ScaleName } from "./words.mjs" */
/** @import { Wall } from "./state.mjs" */
/** @import { Tap } from "./tap.mjs" */
/** @import { Unit } from "./values.mjs" */
import { currentUnit } from "./app.mjs";
import { hasArithmetic, tapByKey } from "./arithmetic.mjs";
import { barAt } from "./contributions.mjs";
import { tapAt } from "./details.mjs";
import { canvasOf, element } from "./drawing.mjs";
import { placesOf } from "./exemplars.mjs";
import { tileAt } from "./layout.mjs";
import { findRegions } from "./photo.mjs";
import { listenToSliders, moveSlice } from "./sliders.mjs";
import { currentVoxel, voxelAt } from "./slices.mjs";
import { clamp } from "./state.mjs";
import { drawThumbnails } from "./strip.mjs";
import { inGroup, inVersion } from "./groups.mjs";
import { change, showChannel, showUnit } from "./view.mjs";
import { MARGIN } from "./views.mjs";
import { showWhole } from "./whole.mjs";
import { listenToWindow } from "./window.mjs";

/** @param {App} app */
export function listen(app) {
  listenToStrip(app);
  listenToMap(app);
  listenToInput(app);
  listenToSliders(app);
  listenToPatches(app);
  listenToKernel(app);
  listenToMosaic(app);
  listenToBars(app);
  listenToVersions(app);
  listenToControls(app);
  listenToWindow(app);
}

/** @param {App} app @param {PointerEvent} event @returns {Unit} */
function unitUnder(app, event) {
  const box = element("map").getBoundingClientRect();
  const { height, width } = app.shown.layer;
  return {
    z: app.state.z,
    y: clamp(Math.floor(((event.clientY - box.top) / box.height) * height), height),
    x: clamp(Math.floor(((event.clientX - box.left) / box.width) * width), width),
  };
}

/** @param {App} app */
function listenToMap(app) {
  const map = canvasOf("map");
  let frame = 0;
  map.addEventListener("pointermove", (event) => {
    const unit = unitUnder(app, event);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      app.preview = unit;
      showUnit(app);
    });
  });
  map.addEventListener("pointerdown", (event) => {
    cancelAnimationFrame(frame);
    change(app, unitUnder(app, event));
  });
  map.addEventListener("pointerleave", (event) => {
    cancelAnimationFrame(frame);
    if (event.pointerType !== "mouse" && app.preview) {
      change(app, { ...app.preview });
      return;
    }
    app.preview = null;
    showUnit(app);
  });
  map.addEventListener("keydown", (event) => handleKey(event, () => (event.shiftKey && moveSlice(app, event.key)) || moveUnit(app, event.key) || turnPage(app, event.key)));
}

/** @param {App} app Thumbnails of layers and images: a click chooses, arrow keys move along. */
function listenToStrip(app) {
  /** @param {string} name @param {(index: number) => Promise<void>} choose */
  const along = (name, choose) => {
    const row = element(name);
    row.addEventListener("click", (event) => {
      const index = [...row.children].findIndex((one) => one.contains(/** @type {Node} */ (event.target)));
      if (index >= 0) choose(index);
    });
    row.addEventListener("keydown", (event) => handleKey(event, () => {
      const from = [...row.children].indexOf(/** @type {Element} */ (document.activeElement));
      const count = row.children.length;
      const to = { ArrowLeft: from - 1, ArrowRight: from + 1, ArrowUp: from - 1, ArrowDown: from + 1, Home: 0, End: count - 1 }[event.key];
      if (to === undefined || from < 0) return false;
      const index = clamp(to, count);
      /** @type {HTMLElement} */ (row.children[index]).focus({ preventScroll: true });
      choose(index);
      return true;
    }));
  };
  along("strip", (group) => change(app, { layer: inGroup(app.payload, group, app.state.layer), channel: null }));
  along("images", (image) => change(app, { image }).then(() => drawThumbnails(app)));
}

/** @param {App} app The photo: a click chooses a pixel, arrow keys move it, Escape lets go of it. */
function listenToInput(app) {
  const canvas = canvasOf("input");
  /** @param {Unit | null} pixel */
  const choose = (pixel) => {
    app.slice = pixel && app.payload.input.depth > 1 ? pixel.z : null;
    findRegions(app, pixel);
    showChannel(app);
  };
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const [left, top] = [event.clientX - box.left - MARGIN, event.clientY - box.top - MARGIN];
    const { input } = app.payload;
    const { depth, height, width } = input;
    const y = Math.floor((top / (box.height - 2 * MARGIN)) * height);
    const x = Math.floor((left / (box.width - 2 * MARGIN)) * width);
    const found = app.panels && input.axes === 3 ? voxelAt(app.panels, left, top, currentVoxel(app)) : { z: 0, y, x };
    choose({ z: clamp(found.z, depth), y: clamp(found.y, height), x: clamp(found.x, width) });
  });
  canvas.addEventListener("keydown", (event) => handleKey(event, () => {
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Enter: [0, 0] };
    const move = moves[event.key];
    if (event.key === "Escape") choose(null);
    else if (!move) return false;
    else {
      const { depth, height, width } = app.payload.input;
      const { z, y, x } = app.pixel ?? { z: app.payload.input.axes === 3 ? currentVoxel(app).z : 0, y: height >> 1, x: width >> 1 };
      if (event.shiftKey) choose({ z: clamp(z + move[0], depth), y, x });
      else choose({ z, y: clamp(y + move[0], height), x: clamp(x + move[1], width) });
    }
    return true;
  }));
}

/** @param {App} app The kernels: a click chooses a weight, arrow keys move along, Page Up and Page Down change the input. */
function listenToKernel(app) {
  const canvas = canvasOf("kernel-picture");
  /** @param {Tap | null} tap @returns {true} */
  const choose = (tap) => {
    app.tap = tap;
    showChannel(app);
    return true;
  };
  canvas.addEventListener("click", (event) => {
    if (hasArithmetic(app)) choose(tapAt(app, event.offsetX, event.offsetY));
  });
  canvas.addEventListener("keydown", (event) => handleKey(event, () => {
    const tap = hasArithmetic(app) ? tapByKey(app, event.key) : undefined;
    return tap !== undefined && choose(tap);
  }));
}

/** @param {App} app A patch that is clicked is shown in its whole image. */
function listenToPatches(app) {
  element("exemplar-picture").addEventListener("click", (event) => {
    const button = /** @type {Element} */ (event.target).closest("button");
    const place = button && placesOf(app.shown, app.state.channel).find((one) => `${one.rank}` === button.dataset.rank);
    if (place) showWhole(app, place);
  });
  const dialog = /** @type {HTMLDialogElement} */ (element("whole"));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

/** @param {App} app */
function listenToMosaic(app) {
  const mosaic = canvasOf("mosaic");
  mosaic.addEventListener("keydown", (event) =>
    handleKey(event, () => moveChannel(app, event.key) || turnPage(app, event.key)),
  );
  mosaic.addEventListener("click", (event) => {
    const tile = tileAt(event.offsetX, event.offsetY, app.grid, app.order.length);
    if (tile >= 0) change(app, { channel: app.order[tile] });
  });
  let frame = 0;
  /** @param {number | null} channel */
  const peek = (channel) => {
    if (app.peek === channel) return;
    cancelAnimationFrame(frame);
    app.peek = channel;
    frame = requestAnimationFrame(() => showChannel(app));
  };
  mosaic.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const tile = tileAt(event.offsetX, event.offsetY, app.grid, app.order.length);
    peek(tile >= 0 && app.order[tile] !== app.state.channel ? app.order[tile] : null);
  });
  mosaic.addEventListener("pointerleave", () => peek(null));
}

/** @param {App} app The bars of contributions: a click chooses a channel, arrow keys move along, the mouse shows what it points at. */
function listenToBars(app) {
  const bars = canvasOf("bars");
  let frame = 0;
  /** @param {number} channel -1: the chosen one */
  const peek = (channel) => {
    const found = channel < 0 || channel === app.state.channel ? null : channel;
    if (app.peek === found) return;
    cancelAnimationFrame(frame);
    app.peek = found;
    frame = requestAnimationFrame(() => showChannel(app));
  };
  bars.addEventListener("click", (event) => {
    const channel = barAt(app, event.offsetX);
    if (channel >= 0) change(app, { channel });
  });
  bars.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") peek(barAt(app, event.offsetX));
  });
  bars.addEventListener("pointerleave", () => peek(-1));
  bars.addEventListener("keydown", (event) => handleKey(event, () => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    return steps ? turn(app, steps) : moveChannel(app, event.key) || turnPage(app, event.key);
  }));
}

/** @param {App} app A click on a version of the map shows all of the layer in it. */
function listenToVersions(app) {
  element("versions").addEventListener("click", (event) => {
    const version = [...element("versions").children].findIndex((one) => one.contains(/** @type {Node} */ (event.target)));
    if (version >= 0) change(app, { layer: inVersion(app.payload, app.state.layer, version) }).then(() => drawThumbnails(app));
  });
}

/** @param {KeyboardEvent} event @param {() => boolean} act true: the key was for the page */
function handleKey(event, act) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (act()) event.preventDefault();
}

/** @param {App} app @param {string} key @returns {boolean} whether it moves the unit */
function moveUnit(app, key) {
  const { y, x } = currentUnit(app);
  const { height, width } = app.shown.layer;
  /** @type {Record<string, [number, number]>} */
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [-height, -width], End: [height, width] };
  const move = moves[key];
  if (!move) return false;
  const step = app.shown.steps[app.state.channel];
  change(app, { y: clamp(y + step * move[0], height), x: clamp(x + step * move[1], width) });
  return true;
}

/** @param {App} app @param {string} key @returns {boolean} whether it chooses another channel in the mosaic */
function moveChannel(app, key) {
  const { columns } = app.grid;
  const steps = { ArrowUp: -columns, ArrowDown: columns, ArrowLeft: -1, ArrowRight: 1 }[key];
  if (steps) return turn(app, steps);
  if (key === "Home") change(app, { channel: app.order[0] });
  else if (key === "End") change(app, { channel: app.order[app.order.length - 1] });
  else return false;
  return true;
}

/** @param {App} app @param {string} key @returns {boolean} whether it turns to the next or the last channel */
function turnPage(app, key) {
  const steps = { PageUp: -1, PageDown: 1 }[key];
  return steps ? turn(app, steps) : false;
}

/** @param {App} app @param {number} steps @returns {true} */
function turn(app, steps) {
  const channel = app.order[app.order.indexOf(app.state.channel) + steps];
  if (channel !== undefined) change(app, { channel });
  return true;
}

/** @param {App} app */
function listenToControls(app) {
  /** @param {string} name @param {(value: string) => void} choose */
  const onChange = (name, choose) => {
    const control = /** @type {HTMLSelectElement} */ (element(name));
    control.addEventListener("change", () => choose(control.value));
  };
  onChange("layer", (value) => change(app, { layer: inGroup(app.payload, Number(value), app.state.layer), channel: null }));
  onChange("image", (value) => change(app, { image: Number(value) }).then(() => drawThumbnails(app)));
  onChange("scale", (value) => change(app, { scale: /** @type {ScaleName} */ (value) }).then(() => drawThumbnails(app)));
  onChange("over", (value) => change(app, { over: Number(value) }));
  onChange("order", (value) => change(app, { order: /** @type {Order} */ (value) }));
  element("wall").addEventListener("click", (event) => {
    const { value } = /** @type {HTMLButtonElement} */ (event.target);
    if (value) change(app, { wall: /** @type {Wall} */ (value) });
  });
}
