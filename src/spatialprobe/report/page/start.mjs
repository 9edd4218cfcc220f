/**
 * The page begins here. A browser that cannot unpack the maps keeps the still pictures.
 */

/** @import { Payload } from "./data.mjs" */
import { readAddress } from "./address.mjs";
import { createApp } from "./app.mjs";
import { element } from "./drawing.mjs";
import { listen } from "./input.mjs";
import { namesOver, parseAddress } from "./state.mjs";
import { buildStrip, drawThumbnails } from "./strip.mjs";
import { layerNames } from "./groups.mjs";
import { buildVersions } from "./versions.mjs";
import { change } from "./view.mjs";

/** @param {string[]} texts @returns {HTMLOptionElement[]} */
function options(texts) {
  return texts.map((text, value) => new Option(text, `${value}`));
}

/** @param {Payload} payload Offer what may lie over the input, and the order of contributions where there are some. */
function offerContributions(payload) {
  const names = namesOver(payload);
  element("over").replaceChildren(...options(["nothing", ...names]));
  element("over-choice").hidden = !names.length;
  if (!payload.score) element("order").querySelector("[value=contribution]")?.remove();
  if (!payload.versions?.length) element("order").querySelector("[value=change]")?.remove();
}

async function start() {
  /** @type {Payload} */
  const payload = JSON.parse(element("data").textContent ?? "");
  const app = createApp(payload, [.../** @type {NodeListOf<HTMLImageElement>} */ (document.querySelectorAll("img.input"))]);
  element("layer").replaceChildren(...options(layerNames(payload)));
  element("image").replaceChildren(...options(payload.images.map((image) => image.name)));
  for (const name of ["plain", "stills"]) element(name).hidden = true;
  element("app").hidden = false;
  offerContributions(payload);
  buildStrip(app);
  buildVersions(app);
  await change(app, { channel: null, z: null, y: null, x: null, ...parseAddress(readAddress(app), payload) });
  listen(app);
  document.documentElement.dataset.ready = "yes";
  await drawThumbnails(app);
}

/** @param {unknown} error */
function fallBack(error) {
  element("app").hidden = true;
  for (const name of ["plain", "stills"]) element(name).hidden = false;
  throw error;
}

start().catch(fallBack);
