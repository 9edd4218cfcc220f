import assert from "node:assert/strict";
import test from "node:test";
import { countVersions, groupOf, inGroup, layerNames } from "../../../src/spatialprobe/report/page/groups.mjs";
import { initialState, parseAddress } from "../../../src/spatialprobe/report/page/state.mjs";
import { orderChannels } from "../../../src/spatialprobe/report/page/values.mjs";
import { changesOf } from "../../../src/spatialprobe/report/page/versions.mjs";
import { loadedLayer } from "./layers.mjs";

const ONE = { images: [{}], layers: [{ name: "a" }, { name: "b" }] };
const TWO = {
  images: [{}],
  versions: ["old", "new", "new − old"],
  layers: ["a, old", "a, new", "a, new − old", "b, old", "b, new", "b, new − old"].map((name) => ({ name, channels: null, every: 1 })),
};

test("a page of one model has a group for each layer, one of two models for each three", () => {
  assert.deepEqual([countVersions(ONE), groupOf(ONE, 1), inGroup(ONE, 1, 0)], [1, 1, 1]);
  assert.deepEqual([countVersions(TWO), groupOf(TWO, 4), inGroup(TWO, 0, 4)], [3, 1, 1]);
  assert.deepEqual([layerNames(ONE), layerNames(TWO)], [["a", "b"], ["a", "b"]]);
});

test("an address names a version of a layer, or the layer", () => {
  assert.equal(parseAddress("#b, new/2", TWO).layer, 4);
  assert.equal(parseAddress("#b/2", TWO).layer, 3);
  assert.deepEqual(parseAddress("#c", TWO), {});
  assert.deepEqual(parseAddress("#c", ONE), {});
});

test("channels of two models come in the order of change", () => {
  assert.equal(initialState(TWO).order, "change");
  const difference = loadedLayer();
  difference.low[1] = -9;
  difference.high[1] = -8;
  const changes = changesOf(difference);
  const values = [0, 127, 254, 10, 20, 30].map((code) => ((4 * code) / 254) ** 2);
  assert.ok(Math.abs(changes[0] - values.reduce((sum, one) => sum + one) / 6) < 1e-9);
  assert.equal(changes[1], 81);
  assert.deepEqual(orderChannels({ ...difference, changes }, "change"), [1, 0]);
});
