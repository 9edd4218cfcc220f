import assert from "node:assert/strict";
import test from "node:test";
import { entropyOf, findRichestChannel, findStrongestUnit, markOf, numberOf, orderChannels, shareBeyond, stepOf, valueAt } from "../../../src/spatialprobe/report/page/values.mjs";
import { CODES, loadedLayer } from "./layers.mjs";

test("both ends of a channel's values are exact, and codes between them lie evenly", () => {
  const loaded = loadedLayer();
  assert.equal(valueAt(loaded, 0, 0, 0), 0);
  assert.equal(valueAt(loaded, 0, 0, 2), 4);
  assert.ok(Math.abs(valueAt(loaded, 0, 0, 1) - (4 * 127) / 254) < 1e-12);
  assert.equal(stepOf(loaded, 0), 4 / 254);
});

test("the code of infinite and NaN values is no number", () => {
  const loaded = loadedLayer();
  loaded.codes[4] = CODES.nonfinite;
  assert.ok(Number.isNaN(valueAt(loaded, 0, 1, 1)));
});

test("channels are marked as dead, constant, or not finite; a map of one unit is no constant", () => {
  const maps = { low: [0, 1.5, 0], high: [0, 1.5, 1], nonfinite: [0, 0, 1] };
  assert.deepEqual([0, 1, 2].map((channel) => markOf(maps, channel, 2)), ["dead", "constant", "not finite"]);
  assert.equal(markOf({ low: [0], high: [0], nonfinite: [0] }, 0, 1), "");
});

test("channels that the page leaves out keep the others' numbers", () => {
  assert.equal(numberOf(loadedLayer(), 1), 1);
  assert.equal(numberOf(loadedLayer({ channels: [3, 17] }), 1), 17);
});

test("channels are ordered by strength and by sparsity, equal ones by number", () => {
  const loaded = loadedLayer();
  assert.deepEqual(orderChannels(loaded, "index"), [0, 1]);
  assert.deepEqual(orderChannels(loaded, "strength"), [0, 1]);
  assert.deepEqual(orderChannels(loaded, "sparsity"), [1, 0]);
  loaded.high[1] = 4;
  assert.deepEqual(orderChannels(loaded, "strength"), [0, 1]);
});

test("the strongest unit is that of the largest magnitude, below zero too, and never one that is not finite", () => {
  const loaded = loadedLayer();
  assert.deepEqual(findStrongestUnit(loaded, 0), { z: 0, y: 0, x: 2 });
  loaded.low[0] = -9;
  assert.deepEqual(findStrongestUnit(loaded, 0), { z: 0, y: 0, x: 0 });
  loaded.codes[0] = CODES.nonfinite;
  assert.deepEqual(findStrongestUnit(loaded, 0), { z: 0, y: 1, x: 0 });
});

test("the strongest unit is one of those that count, if any does", () => {
  const loaded = loadedLayer();
  assert.deepEqual(findStrongestUnit(loaded, 0, ({ y }) => y === 1), { z: 0, y: 1, x: 2 });
  assert.deepEqual(findStrongestUnit(loaded, 0, () => false), { z: 0, y: 0, x: 2 });
});

test("the richest channel is the one whose values take the most shades evenly, never a marked one where another lives", () => {
  const loaded = loadedLayer({ robust: 4 });
  assert.equal(findRichestChannel(loaded), 0);
  assert.equal(findRichestChannel({ ...loadedLayer({ robust: 4 }), marks: ["constant", "dead"] }), 0);
  const other = loadedLayer({ robust: 4 });
  other.marks = ["", ""];
  other.high[1] = 4;
  other.codes.set([0, 50, 100, 150, 200, 254], 6);
  assert.equal(findRichestChannel(other), 1);
  assert.ok(Math.abs(entropyOf(other, 1) - Math.log2(6)) < 1e-12);
});

test("the share beyond a reach counts finite values alone", () => {
  const loaded = loadedLayer();
  assert.equal(shareBeyond(loaded, 4), 0);
  assert.equal(shareBeyond(loaded, 1), 2 / 12);
  const other = loadedLayer();
  other.codes[2] = CODES.nonfinite;
  assert.equal(shareBeyond(other, 1), 1 / 11);
});
