/**
 * The concepts that a channel's most active units coincide with, beside the masks of other images.
 */

/** @import { App } from "./app.mjs" */
/** @import { Payload } from "./data.mjs" */
/** @import { Loaded } from "./values.mjs" */
import { currentChannel } from "./app.mjs";
import { element } from "./drawing.mjs";
import { formatCount, formatPercent } from "./words.mjs";

/** @typedef {{ name: string, iou: number, control: number, spread: number }} Aligned a concept: the intersection over union with its masks, and with those of other images */

/** @param {Loaded} loaded @param {number} channel @returns {Aligned[]} the concepts with the largest margins, the largest first; none of a channel that is never active */
export function conceptsOf(loaded, channel) {
  const { concepts } = loaded.layer;
  const { conceptOrder, conceptNumbers } = loaded;
  if (!concepts || !conceptOrder || !conceptNumbers) return [];
  const count = conceptOrder.length;
  return Array.from({ length: concepts.listed }, (_, rank) => channel * concepts.listed + rank)
    .filter((at) => conceptOrder[at] >= 0)
    .map((at) => {
      const [iou, control, spread] = [0, 1, 2].map((row) => conceptNumbers[row * count + at]);
      return { name: concepts.names[conceptOrder[at]], iou, control, spread };
    });
}

/** @param {App} app */
export function drawConcepts(app) {
  const { shown, payload } = app;
  const found = conceptsOf(shown, currentChannel(app));
  const words = describeConcepts(shown, payload, found);
  const section = element("concepts");
  section.hidden = !words;
  element("concept-words").textContent = words;
  const table = section.querySelector("table");
  if (table) table.hidden = !found.length;
  section.querySelector("tbody")?.replaceChildren(...found.map((one) => rowOf(one, shown.layer.concepts?.reach ?? 1)));
}

/** @param {Aligned} one @param {number} reach the end of all bars of the layer @returns {HTMLTableRowElement} */
function rowOf({ name, iou, control, spread }, reach) {
  const row = document.createElement("tr");
  const heading = document.createElement("th");
  heading.scope = "row";
  heading.append(name, barOf(iou / reach, control / reach));
  row.append(heading, ...[formatShare(iou), `${formatShare(control)} ± ${formatShare(spread)}`, formatMargin(iou - control)].map(cellOf));
  return row;
}

/** @param {number} own share of the line @param {number} others @returns {HTMLElement} a bar, and a tick for the masks of other images */
function barOf(own, others) {
  const [line, bar, tick] = ["span", "i", "b"].map((tag) => document.createElement(tag));
  line.className = "share";
  bar.style.width = `${100 * own}%`;
  tick.style.left = `${100 * others}%`;
  line.append(bar, tick);
  return line;
}

/** @param {number} share @returns {string} */
function formatShare(share) {
  return share.toFixed(3);
}

/** @param {number} margin @returns {string} */
function formatMargin(margin) {
  return `${margin < 0 ? "−" : "+"}${formatShare(Math.abs(margin))}`;
}

/** @param {string} text @returns {HTMLTableCellElement} */
function cellOf(text) {
  const cell = document.createElement("td");
  cell.textContent = text;
  return cell;
}

/** @param {Loaded} loaded @param {Payload} payload @param {Aligned[]} found of the channel @returns {string} what it aligns with best; nothing on a page without concepts */
export function describeConcepts(loaded, payload, found) {
  const { concepts, name, kind } = loaded.layer;
  if (!concepts) return payload.layers.some((layer) => layer.concepts) && kind !== "difference" ? `${name} was held against no concepts.` : "";
  if (!found.length) return `It is never active: none of its units was among its largest values in ${formatCount(concepts.images, "image")}.`;
  const [{ name: best, iou, control }] = found;
  const where = concepts.at === payload.at ? "" : concepts.at === "output" ? ", before the nonlinearity," : ", after the nonlinearity,";
  return [
    `Its most active ${formatPercent(concepts.quantile)} of units${where} coincide best with ${best}: an intersection over union of ${formatShare(iou)}, ${formatShare(control)} with the masks of other images (ticks), over ${formatCount(concepts.images, "image")}.`,
    ...(concepts.names.length > 1 ? [`The best of ${concepts.names.length} concepts has some margin by chance.`] : []),
  ].join(" ");
}
