/**
 * What the reader has chosen, what a wish makes of it, and how an address writes it.
 *
 * All that the page shows follows from a `State` and the payload. Nothing here touches the document.
 */

/** @import { Input, Payload } from "./data.mjs" */
/** @import { Loaded, Order, Unit } from "./values.mjs" */
/** @import { ScaleName } from "./words.mjs" */
import { isInside } from "./fields.mjs";
import { inGroup, layerNames } from "./groups.mjs";
import { findFirstChannel, findStrongestUnit, keptUnit, numberOf } from "./values.mjs";

/** @typedef {"maps" | "patches" | "synthesized"} Wall what the tiles of the mosaic show */
/** @typedef {{ layer: number, image: number, scale: ScaleName, order: Order, wall: Wall, channel: number, z: number, y: number, x: number, over: number }} State `over`: what lies over the input, 0 for nothing */
/**
 * A change that is asked for; null leaves a channel or a unit to the page.
 * @typedef {{ layer?: number, image?: number, scale?: ScaleName, order?: Order, wall?: Wall, channel?: number | null, z?: number | null, y?: number | null, x?: number | null, over?: number }} Wish
 */

/** @type {Wall[]} */
const WALLS = ["maps", "patches", "synthesized"];
/** @type {ScaleName[]} */
const SCALES = ["robust", "layer", "map", "all"];
/** @type {Order[]} */
const ORDERS = ["index", "strength", "sparsity", "contribution", "change"];

/** @param {Payload | null} [payload] @returns {State} contributions first, where the page has them */
export function initialState(payload = null) {
  const explains = Boolean(payload?.score);
  const order = explains ? "contribution" : payload?.versions?.length ? "change" : "index";
  return { layer: 0, image: 0, scale: "robust", order, wall: "maps", channel: 0, z: 0, y: 0, x: 0, over: explains ? 1 : 0 };
}

/** @param {Payload} payload @returns {string[]} what may lie over the input, the choices of `State.over` from 1 on */
export function namesOver({ score, overlays }) {
  return [...(score ? ["contributions"] : []), ...(overlays ?? []).map(({ name }) => name)];
}

/** @param {State} state @param {Wish} wish @param {Loaded} found the layer and image wished for @param {Loaded | null} before those shown now @param {Input} input @returns {State} */
export function nextState(state, wish, found, before, input) {
  const next = { ...state, ...wish };
  const { layer } = found;
  if (before && !("y" in wish || "x" in wish)) {
    next.y = Math.floor(((state.y + 0.5) * layer.height) / before.layer.height);
    next.x = Math.floor(((state.x + 0.5) * layer.width) / before.layer.width);
    next.z = Math.floor(((state.z + 0.5) * layer.depth) / before.layer.depth);
  }
  const channel = Math.min(next.channel ?? findFirstChannel(found, next.order), found.count - 1);
  const { y, x } = next;
  const unit = y === null || x === null ? findStrongestUnit(found, channel, isInside(found, channel, input)) : { z: next.z ?? 0, y, x };
  const inside = { z: clamp(unit.z, layer.depth), y: clamp(unit.y, layer.height), x: clamp(unit.x, layer.width) };
  return { ...next, channel, ...keptUnit(found, channel, inside) };
}

/** @param {number} value @param {number} count @returns {number} the nearest of 0 to count - 1 */
export function clamp(value, count) {
  return Math.min(Math.max(value, 0), count - 1);
}

/** @param {State} state @param {Unit} unit @param {Loaded} loaded @param {Payload | null} [payload] @returns {string} `#layer/channel/y/x`, of a volume `#layer/channel/y/x/z`, and after a question mark what is not as at first */
export function formatAddress(state, unit, loaded, payload = null) {
  const first = initialState(payload);
  const more = new URLSearchParams();
  const { every } = loaded.layer;
  if (state.image) more.set("image", `${state.image}`);
  if (state.scale !== "robust") more.set("scale", state.scale);
  if (state.wall !== "maps") more.set("wall", state.wall);
  if (state.order !== first.order) more.set("order", state.order);
  if (state.over !== first.over) more.set("over", `${state.over}`);
  const parts = [encodeURIComponent(loaded.layer.name), numberOf(loaded, state.channel), unit.y * every, unit.x * every];
  if (loaded.layer.axes === 3) parts.push(unit.z);
  const query = more.toString();
  return `#${parts.join("/")}${query && "?"}${query}`;
}

/** @param {string} address @param {Payload} payload @returns {Wish} what it asks for; of an address that names no layer, nothing */
export function parseAddress(address, payload) {
  const [path, query] = address.slice(1).split("?");
  const [name, ...rest] = path.split("/");
  const wanted = decodeName(name);
  const group = layerNames(payload).findIndex((one) => one === wanted);
  const exact = payload.layers.findIndex((one) => one.name === wanted);
  const layer = exact < 0 ? inGroup(payload, group, 0) : exact; // without a version: the first
  if (layer < 0) return {};
  const numbers = rest.map((text) => (/^\d{1,9}$/.test(text) ? Number(text) : -1));
  const { channels, every } = payload.layers[layer];
  const channel = channels ? channels.indexOf(numbers[0]) : (numbers[0] ?? -1);
  const unit = numbers[1] >= 0 && numbers[2] >= 0;
  return {
    layer,
    channel: channel < 0 ? null : channel,
    y: unit ? Math.floor(numbers[1] / every) : null,
    x: unit ? Math.floor(numbers[2] / every) : null,
    z: unit ? Math.max(0, numbers[3] ?? 0) : null,
    ...parseChoices(new URLSearchParams(query || ""), payload),
  };
}

/** @param {URLSearchParams} more @param {Payload} payload @returns {Wish} */
function parseChoices(more, payload) {
  const image = Number(more.get("image"));
  const first = initialState(payload);
  const over = Number(more.get("over") ?? first.over);
  return {
    image: Number.isInteger(image) && image >= 0 && image < payload.images.length ? image : 0,
    scale: SCALES.find((one) => one === more.get("scale")) ?? "robust",
    wall: WALLS.find((one) => one === more.get("wall")) ?? "maps",
    order: ORDERS.find((one) => one === more.get("order")) ?? first.order,
    over: Number.isInteger(over) && over >= 0 && over <= namesOver(payload).length ? over : first.over,
  };
}

/** @param {string} text @returns {string | null} */
function decodeName(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
