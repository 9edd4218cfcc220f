/**
 * Numbers and sentences. Nothing here touches the document.
 */

/** @import { Input, LayerEntry, Payload } from "./data.mjs" */
/** @import { Box } from "./fields.mjs" */
/** @import { Pixel, Region } from "./pixel.mjs" */
/** @import { Loaded, Mark, Order, Unit } from "./values.mjs" */
import { boxAt } from "./fields.mjs";
import { numberOf, stepOf, valueAt } from "./values.mjs";

/** @typedef {"robust" | "layer" | "map" | "all"} ScaleName */

const SMALL = 1e-4; // of a signed number: below, it is written with an exponent

/** @param {number} count @param {string} noun @returns {string} `1 row`, `2 rows` */
export function formatCount(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** @param {number} value @param {number} [digits] significant ones @returns {string} */
export function formatNumber(value, digits = 4) {
  return Number.isFinite(value) ? `${Number(value.toPrecision(digits))}` : "none";
}

/** @param {number} value @returns {string} with its sign, to three digits, a small one as `+8.39e-6` */
export function formatSigned(value) {
  if (!value) return "0";
  const size = Math.abs(value);
  const written = size < SMALL ? `${Number(size.toPrecision(3)).toExponential()}` : formatNumber(size, 3);
  return `${value < 0 ? "−" : "+"}${written}`;
}

/** @param {number} share @returns {string} */
export function formatPercent(share) {
  return `${Number((100 * share).toPrecision(3))} %`;
}

/** @param {number} value @param {number} step @returns {string} the value to one digit more than a step has */
export function roundToStep(value, step) {
  const digits = Math.ceil(-Math.log10(step)) + 1;
  return digits >= 0 && digits < 12 ? `${Number(value.toFixed(digits))}` : formatNumber(value);
}

/** @param {string} name @param {number} from @param {number} to half open @returns {string} */
export function formatRange(name, from, to) {
  return to - from === 1 ? `${name} ${from}` : `${name}s ${from}-${to - 1}`;
}

/** @param {string[]} items @returns {string} `a, b and c` */
export function joinWords(items) {
  return items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items[items.length - 1]}` : items.join("");
}

/** @param {Loaded} loaded @param {number} channel @param {Unit} unit @returns {string} */
export function formatValue(loaded, channel, { z, y, x }) {
  const value = valueAt(loaded, channel, y, x, z);
  if (Number.isNaN(value)) return "not finite";
  const step = stepOf(loaded, channel);
  return step > 0 ? roundToStep(value, step) : formatNumber(value);
}

/** @param {Box | null} box @param {Input} input @returns {string} what a unit sees */
export function describeBox(box, input) {
  if (!box) return "It sees only padding, nothing of the input.";
  const { height, width, depth, axes } = input;
  const whole = box.y0 === 0 && box.x0 === 0 && box.z0 === 0 && box.y1 === height && box.x1 === width && box.z1 === depth;
  const seen = `It sees ${describeRegion(box, axes, "position")} of the input${whole ? ", which is all of it" : ""}.`;
  const line = axes === 1;
  /** @type {[number, string, string][]} */
  const sides = [
    [-box.Z0, "slice", "before"],
    [box.Z1 - depth, "slice", "behind"],
    [-box.Y0, "row", "above"],
    [box.Y1 - height, "row", "below"],
    [-box.X0, line ? "position" : "column", line ? "before" : "left of"],
    [box.X1 - width, line ? "position" : "column", line ? "after" : "right of"],
  ];
  const beyond = sides.filter(([count]) => count > 0).map(([count, noun, side]) => `${formatCount(count, noun)} ${side} it`);
  return beyond.length ? `${seen} The border cuts its field: ${joinWords(beyond)} are padding.` : seen;
}

/** @param {Region | Box} region @param {number} axes @param {string} noun of what lies along a line @returns {string} `rows 0-2, columns 3-5` */
export function describeRegion(region, axes, noun) {
  if (axes === 1) return formatRange(noun, region.x0, region.x1);
  const planar = `${formatRange("row", region.y0, region.y1)}, ${formatRange("column", region.x0, region.x1)}`;
  return axes === 3 ? `${formatRange("slice", region.z0, region.z1)}, ${planar}` : planar;
}

/** @param {Unit} unit @param {number} axes @returns {string} `row 0, column 3`; of a line the number alone */
export function describeUnitPlace({ z, y, x }, axes) {
  if (axes === 1) return `${x}`;
  const planar = `row ${y}, column ${x}`;
  return axes === 3 ? `slice ${z}, ${planar}` : planar;
}

/** @param {Pixel} pixel @param {Input} input @returns {string} */
export function describePixel(pixel, { axes }) {
  return `${["Position", "Pixel", "Voxel"][axes - 1]} ${describeUnitPlace(pixel, axes)}`;
}

/** @param {LayerEntry} layer @returns {number[]} how many units it has along each of its axes */
export function unitsOf({ axes, depth, units }) {
  return axes === 1 ? [units[1]] : axes === 3 ? [depth, ...units] : units;
}

/** @param {Loaded} loaded @param {Payload} payload @param {number} channel @param {Unit} unit @returns {string} */
export function describeUnit(loaded, payload, channel, unit) {
  const { layer } = loaded;
  const value = formatValue(loaded, channel, unit);
  const place = describeUnitPlace({ z: unit.z, y: unit.y * layer.every, x: unit.x * layer.every }, layer.axes);
  const words = [
    `Unit ${place} of ${layer.name}, channel ${numberOf(loaded, channel)}: ${layer.kind === "difference" ? "difference" : "activation"} ${value}.`,
    describeBox(boxAt(loaded, channel, unit), payload.input),
  ];
  if (!layer.boxes.exact) {
    const unknown = layer.boxes.unknown.length ? `, because of ${layer.boxes.unknown.join(", ")}` : "";
    words.push(`The field may be smaller than shown${unknown}.`);
  }
  return words.join(" ");
}

/** @param {Loaded} loaded @returns {string} `2 of 64 channels` */
export function describeChannels({ layer }) {
  return layer.channels ? `${layer.channels.length} of ${layer.of} channels` : formatCount(layer.of, "channel");
}

/** @param {Loaded} loaded @param {Input} input @returns {string} */
export function describeLayer(loaded, input) {
  const { layer } = loaded;
  const units = `${unitsOf(layer).join(" x ")} units`;
  const lines = layer.axes === 1 ? "units" : "rows and columns of units";
  const coarse = loaded.steps.filter((step) => step > 1).length;
  const some = coarse ? ` Of ${formatCount(coarse, "channel")} one of ${Math.max(...loaded.steps)} ${lines} is kept.` : "";
  const kept = layer.every > 1 ? ` One of ${layer.every} ${lines} is kept.` : some;
  const seen = `${layer.field.size.join(" x ")} ${["positions", "pixels", "voxels"][input.axes - 1]}`;
  const { ignored } = layer.field;
  const gates = ignored.length ? `, ${joinWords(ignored)} counted as ${ignored.length > 1 ? "constant gates" : "a constant gate"}` : "";
  return `${layer.kind}, ${describeChannels(loaded)} of ${units}; each sees ${seen} of the input${gates}.${kept}`;
}

/** @param {Mark[]} marks @param {Order} order @returns {string} how channels are ordered, and which are marked */
export function describeOrder(marks, order) {
  const ordered = {
    index: "In the order of their numbers.",
    strength: "In order of strength: the largest magnitude first.",
    sparsity: "In order of sparsity: those with the most units at or below zero first.",
    contribution: "In order of contribution to this image's score: what speaks for it first.",
    change: "In order of change: the largest mean square difference between both models, on this image, first.",
  }[order];
  /** @type {[Mark, string][]} */
  const kinds = [
    ["dead", "dead (zero everywhere, hatched)"],
    ["constant", "constant"],
    ["not finite", "with infinite or NaN values (crimson)"],
  ];
  const counts = kinds
    .map(([mark, words]) => ({ count: marks.filter((one) => one === mark).length, words }))
    .filter(({ count }) => count)
    .map(({ count, words }) => `${count} ${words}`);
  return counts.length ? `${ordered} Marked: ${counts.join(", ")}.` : ordered;
}

/** @param {number} number @param {Mark} mark @returns {string} the title of a channel */
export function describeChannel(number, mark) {
  const words = {
    "": "",
    dead: ", dead for this image",
    constant: ", constant for this image",
    "not finite": ", with infinite or NaN values",
  }[mark];
  return `Channel ${number}${words}`;
}

/** @param {ScaleName} scale @param {number} images @param {number} beyond the share of this image's values that lie beyond its ends @returns {string} for which maps one color means one value */
export function describeScale(scale, images, beyond) {
  const all = images > 1 ? `, ${images} images` : "";
  const cut = beyond > 0 ? `; ${beyond < 0.0001 ? "less than 0.01 %" : formatPercent(beyond)} of this image's values beyond` : "";
  return {
    robust: `Color scale: one for this layer's maps${all}, to the 99.5th percentile${cut}.`,
    map: "Color scale: each map has its own; colors cannot be compared between maps.",
    layer: `Color scale: one for all maps of this layer${all}.`,
    all: `Color scale: one for all layers${all}.`,
  }[scale];
}
