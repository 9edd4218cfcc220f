/**
 * What the page shows of a pixel that was clicked: its units in every layer, and the channels to turn to.
 */

/** @import { App } from "./app.mjs" */
/** @import { Pixel, Response } from "./pixel.mjs" */
import { loadArrays } from "./app.mjs";
import { element } from "./drawing.mjs";
import { findRegion, findResponses } from "./pixel.mjs";
import { drawThumbnails } from "./strip.mjs";
import { numberOf } from "./values.mjs";
import { describePixel, describeRegion, formatCount, formatNumber } from "./words.mjs";

const MOST = 8; // channels that are named

/** @param {App} app @param {Pixel | null} pixel @returns {Promise<void>} when every layer's units are known */
export async function findRegions(app, pixel) {
  app.pixel = pixel;
  app.regions = [];
  if (pixel) {
    const arrays = await Promise.all(app.payload.layers.map((_, index) => loadArrays(app, index, app.state.image)));
    if (app.pixel !== pixel) return;
    app.regions = app.payload.layers.map((layer, index) => findRegion(layer, arrays[index], 0, pixel));
  }
  drawThumbnails(app);
}

/** @param {App} app @param {(found: Response) => void} choose called with the channel that is clicked, and its strongest unit */
export function writePixel(app, choose) {
  const { pixel, shown } = app;
  element("pixel").hidden = !pixel;
  if (!pixel) return;
  element("pixel-title").textContent = `${describePixel(pixel, app.payload.input)} of the input`;
  const region = findRegion(shown.layer, shown, app.state.channel, pixel);
  const responses = region ? findResponses(shown, pixel, MOST) : [];
  const units = region
    ? `${describeRegion(region, shown.layer.axes, "unit")} of ${shown.layer.name} (${formatCount((region.z1 - region.z0) * (region.y1 - region.y0) * (region.x1 - region.x0), "unit")})`
    : "";
  element("pixel-words").textContent = region
    ? `Seen by ${units}; the strip frames the units of every layer. The channels that respond most there, with their largest value:`
    : `No unit of ${shown.layer.name} sees it.`;
  element("responses").replaceChildren(...responses.map((found) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `channel ${numberOf(shown, found.channel)}: ${formatNumber(found.value, 3)}`;
    button.addEventListener("click", () => choose(found));
    return button;
  }));
}
