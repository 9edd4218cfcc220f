/**
 * What the page shows of a pixel that was clicked: its units in every layer, and the channels to turn to.
 */

/** @import { App } from "./app.mjs" */
/** @import { Pixel } from "./pixel.mjs" */
import { loadArrays } from "./app.mjs";
import { element } from "./drawing.mjs";
import { findRegion, findResponses } from "./pixel.mjs";
import { drawThumbnails } from "./strip.mjs";
import { numberOf } from "./values.mjs";
import { formatCount, formatNumber, formatRange } from "./words.mjs";

const MOST = 8; // channels that are named

/** @param {App} app @param {Pixel | null} pixel @returns {Promise<void>} when every layer's units are known */
export async function findRegions(app, pixel) {
  app.pixel = pixel;
  app.regions = [];
  if (pixel) {
    const arrays = await Promise.all(app.payload.layers.map((_, index) => loadArrays(app, index)));
    if (app.pixel !== pixel) return;
    app.regions = app.payload.layers.map((layer, index) => findRegion(layer, arrays[index], 0, pixel));
  }
  drawThumbnails(app);
}

/** @param {App} app @param {(channel: number, y: number, x: number) => void} choose called with the channel that is clicked, and its strongest unit */
export function writePixel(app, choose) {
  const { pixel, shown } = app;
  element("pixel").hidden = !pixel;
  if (!pixel) return;
  element("pixel-title").textContent = `Pixel row ${pixel.y}, column ${pixel.x} of the input`;
  const region = findRegion(shown.layer, shown, app.state.channel, pixel);
  const responses = region ? findResponses(shown, pixel, MOST) : [];
  const units = region
    ? `${formatRange("row", region.y0, region.y1)}, ${formatRange("column", region.x0, region.x1)} of ${shown.layer.name} (${formatCount((region.y1 - region.y0) * (region.x1 - region.x0), "unit")})`
    : "";
  element("pixel-words").textContent = region
    ? `Seen by ${units}; the strip frames the units of every layer. The channels that respond most there, with their largest value:`
    : `No unit of ${shown.layer.name} sees it.`;
  element("responses").replaceChildren(...responses.map(({ channel, value, y, x }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `channel ${numberOf(shown, channel)}: ${formatNumber(value, 3)}`;
    button.addEventListener("click", () => choose(channel, y, x));
    return button;
  }));
}
