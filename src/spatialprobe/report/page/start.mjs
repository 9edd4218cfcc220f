/**
 * The page begins here. A browser that cannot unpack the maps keeps the still pictures.
 */

/** @import { App } from "./app.mjs" */
/** @import { Payload } from "./data.mjs" */
import { readAddress } from "./address.mjs";
import { createApp, loadLayer } from "./app.mjs";
import { element } from "./drawing.mjs";
import { listen } from "./input.mjs";
import { parseAddress } from "./state.mjs";
import { change } from "./view.mjs";

/** @param {string[]} texts @returns {HTMLOptionElement[]} */
function options(texts) {
  return texts.map((text, value) => new Option(text, `${value}`));
}

/** @param {App} app Unpack the other layers while the browser is idle, so that they are there when they are chosen. */
async function prepare(app) {
  for (let layer = 0; layer < app.payload.layers.length; layer++) {
    await new Promise((done) => (window.requestIdleCallback || setTimeout)(done));
    await loadLayer(app, layer, app.state.image);
  }
}

async function start() {
  /** @type {Payload} */
  const payload = JSON.parse(element("data").textContent ?? "");
  const app = createApp(payload, [.../** @type {NodeListOf<HTMLImageElement>} */ (document.querySelectorAll("img.input"))]);
  element("layer").replaceChildren(...options(payload.layers.map((layer) => layer.name)));
  element("image").replaceChildren(...options(payload.images.map((image) => image.name)));
  element("plain").hidden = true;
  element("app").hidden = false;
  await change(app, { channel: null, y: null, x: null, ...parseAddress(readAddress(app), payload) });
  listen(app);
  document.documentElement.dataset.ready = "yes";
  await prepare(app);
}

/** @param {unknown} error */
function fallBack(error) {
  element("app").hidden = true;
  element("plain").hidden = false;
  throw error;
}

if (typeof DecompressionStream !== "undefined") start().catch(fallBack);
