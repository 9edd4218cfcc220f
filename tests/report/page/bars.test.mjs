import assert from "node:assert/strict";
import { test } from "node:test";

import { barsOf, drawChannelBars } from "../../../src/spatialprobe/report/page/bars.mjs";
import { loadedLayer } from "./layers.mjs";

/** A layer of one unit with these values; null is a value that is not finite. */
function layerOf(values) {
  const layer = loadedLayer({ height: 1, width: 1, units: [1, 1] });
  const numbers = Float64Array.from(values.map((value) => value ?? 0));
  const codes = Uint8Array.from(values.map((value) => (value === null ? 255 : 0)));
  return { ...layer, units: 1, count: values.length, codes, low: numbers, high: numbers };
}

test("each channel has a bar from zero to its value", () => {
  assert.deepEqual(barsOf(layerOf([2, -3]), 84), [
    { from: 0, to: 1, least: 0, greatest: 2, broken: false },
    { from: 1, to: 2, least: -3, greatest: 0, broken: false },
  ]);
});

test("channels that share a bar are drawn from their least to their greatest value", () => {
  assert.deepEqual(barsOf(layerOf([1, -4, 2, 5, null, 3]), 3.9), [
    { from: 0, to: 2, least: -4, greatest: 1, broken: false },
    { from: 2, to: 4, least: 0, greatest: 5, broken: false },
    { from: 4, to: 6, least: 0, greatest: 3, broken: true },
  ]);
});

/** The rectangles that are drawn of a layer of one unit, on 84 x 46 pixels: the ground, the bars, the line at zero. */
function rectanglesOf(values, low) {
  const rectangles = [];
  const drawing = { fillRect: (...rectangle) => rectangles.push(rectangle) };
  const scale = { low, high: 1, colors: new Uint32Array(4) };
  drawChannelBars({ palettes: { crimson: 0 } }, drawing, layerOf(values), scale, { width: 84, height: 46 });
  return rectangles;
}

test("where channels share bars, each bar has a column of pixels of its own", () => {
  const bars = rectanglesOf(Array(100).fill(1), 0).slice(1, -1);
  assert.deepEqual(bars.map(([left, , width]) => [left, width]), Array.from({ length: 84 }, (_, place) => [place, 1]));
});

test("one bar fills the width, and the line at zero is the lowest row where nothing is below", () => {
  assert.deepEqual(rectanglesOf([0.5], 0), [[0, 0, 84, 46], [0, 23, 84, 23], [0, 45, 84, 1]]);
  assert.deepEqual(rectanglesOf([-0.5], -1), [[0, 0, 84, 46], [0, 23, 84, 11.5], [0, 23, 84, 1]]);
});
