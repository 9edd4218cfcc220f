import assert from "node:assert/strict";
import test from "node:test";
import { describeContribution, rangeOfContributions } from "../../../src/spatialprobe/report/page/contributions.mjs";
import { mixInto } from "../../../src/spatialprobe/report/page/over.mjs";
import { formatAddress, initialState, namesOver, parseAddress } from "../../../src/spatialprobe/report/page/state.mjs";
import { findFirstChannel, joinLayer, orderChannels } from "../../../src/spatialprobe/report/page/values.mjs";
import { formatSigned } from "../../../src/spatialprobe/report/page/words.mjs";
import { CODES, loadedLayer, payload } from "./layers.mjs";

const SCORE = { words: ["the score of class 3 (cat)", "the score of class 0"], values: [2.5, -1], reach: 0.1 };

/** Two channels and two images: channel 1 speaks for the first, channel 0 for the second; one was not ablated. */
function explained() {
  const { layer, boxes, ...maps } = loadedLayer();
  const arrays = { boxes, contributions: Float32Array.from([-1, 2, 3, 0.5]), ablated: Float32Array.from([-1.5, 2, NaN, 1]) };
  return [0, 1].map((image) => joinLayer(layer, 0, image, arrays, maps, CODES));
}

test("each image has its own contributions, and its own order", () => {
  const [first, second] = explained();
  assert.deepEqual([...first.contributions, ...second.contributions], [-1, 2, 3, 0.5]);
  assert.deepEqual(orderChannels(first, "contribution"), [1, 0]);
  assert.deepEqual(orderChannels(second, "contribution"), [0, 1]);
  assert.equal(findFirstChannel(first, "contribution"), 1);
  assert.deepEqual(orderChannels(loadedLayer(), "contribution"), [0, 1]);
  assert.deepEqual(rangeOfContributions(first), [-1.5, 2]);
  assert.deepEqual(rangeOfContributions(loadedLayer()), [0, 0]);
});

test("words say what a channel contributes, and what ablating it did", () => {
  const [first, second] = explained();
  assert.equal(
    describeContribution(first, SCORE, 0),
    "The score of class 3 (cat) is +2.5. Channel 0 contributes −1, number 2 of 2. When it alone is ablated, the score rises by 1.5.",
  );
  assert.match(describeContribution(first, SCORE, 1), /number 1 of 2\. When it alone is ablated, the score falls by 2\.$/);
  assert.match(describeContribution(second, SCORE, 0), /is −1\. Channel 0 contributes \+3, .* was not measured\.$/);
  assert.match(describeContribution({ ...loadedLayer(), image: 0 }, SCORE, 0), /It does not depend on conv1\.$/);
  assert.deepEqual([0, 0.12345, -0.12345, -0.0000083911].map(formatSigned), ["0", "+0.123", "−0.123", "−8.39e-6"]);
});

test("a page with contributions begins with them, and its address says where that was changed", () => {
  const [first] = explained();
  const all = { ...payload([first.layer]), score: SCORE, overlays: [{ name: "captum" }] };
  assert.deepEqual(namesOver(all), ["contributions", "captum"]);
  assert.deepEqual(namesOver(payload([])), []);
  const begin = initialState(all);
  assert.deepEqual([begin.order, begin.over], ["contribution", 1]);
  assert.equal(formatAddress(begin, { y: 0, x: 0 }, first, all), "#conv1/0/0/0");
  const changed = { ...begin, over: 2, order: "index" };
  const address = formatAddress(changed, { y: 0, x: 0 }, first, all);
  assert.equal(address, "#conv1/0/0/0?order=index&over=2");
  assert.deepEqual([parseAddress(address, all).over, parseAddress("#conv1?over=9", all).over], [2, 1]);
});

test("the more a pixel contributes, the more solid its color; where nothing does, the picture is gray and faint", () => {
  const pixels = Uint8ClampedArray.from([0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 255, 0, 0, 0, 255]);
  const values = [0, -1, 9, 0.25];
  mixInto(pixels, [[200, 100, 0], [0, 0, 200]], 1, 2, (x, y) => values[2 * y + x]);
  assert.deepEqual([...pixels.slice(0, 3)], [89, 89, 89]);
  assert.deepEqual([...pixels.slice(4, 7)], [194, 99, 4]);
  assert.deepEqual([...pixels.slice(8, 11)], [13, 13, 203]);
  assert.deepEqual([...pixels.slice(12, 15)], [47, 47, 142]);
});
