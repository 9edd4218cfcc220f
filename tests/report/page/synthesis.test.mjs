import assert from "node:assert/strict";
import test from "node:test";
import { conceptsOf, describeConcepts } from "../../../src/spatialprobe/report/page/concepts.mjs";
import { describeSynthesis } from "../../../src/spatialprobe/report/page/synthesis.mjs";
import { loadedLayer, payload } from "./layers.mjs";

const SHEET = { sheet: "", cell: 8, columns: 1, remarks: [] };
const MADE = { rows: "", reached: "", best: null, unmoved: [], size: [3, 3], drawn: [3, 3], unit: "the unit in row 1, column 1", bounds: [0, 1], sheet: SHEET };
const CONCEPTS = { names: ["ring", "bar"], listed: 2, order: "", numbers: "", reach: 0.5, at: "output", images: 40, shuffles: 8, quantile: 0.05 };

function page(layer, changes = {}) {
  const made = payload([layer]);
  return { ...made, input: { ...made.input, low: 0, high: 1 }, ...changes };
}

test("words say what was made, how far it reaches, and what the picture is not", () => {
  const loaded = { ...loadedLayer({ synthesized: MADE }), madeRows: Int32Array.from([0, -1]), madeReached: Float32Array.from([2.5]) };
  const words = (changes = {}, more = {}) => describeSynthesis({ ...loaded, layer: { ...loaded.layer, synthesized: { ...MADE, ...changes } } }, page(loaded.layer, more), 0);
  assert.equal(words(), "Synthesized by gradient ascent, not found in data: the 3 x 3 pixels that the unit in row 1, column 1 sees. There the channel reaches 2.5.");
  assert.match(words({ bounds: [-1, 1] }), /reaches 2\.5\. Black is -1, white 1\.$/);
  assert.match(words({ size: [200, 200] }), /Its picture has 3 x 3 pixels\.$/);
  assert.match(words({ sheet: null }), /Its picture is not on this page\.$/);
  assert.match(words({ sheet: null, drawn: null }), /Its picture is not drawn\.$/);
  assert.match(words({}, { at: "post_activation" }), /reaches 2\.5 before the nonlinearity\.$/);
  assert.match(words({ unit: null }), /the 3 x 3 pixels that all units see\. The mean over all units reaches 2\.5\.$/);
  assert.match(words({ unmoved: [0] }), /^Hatched: no random image gave this channel a gradient/);
  const best = { ...loaded, madeBest: Float32Array.from([1.5]) };
  assert.match(describeSynthesis(best, page(loaded.layer), 0), /reaches 2\.5, the best real sample 1\.5\.$/);
});

test("channels and layers without an image say so, and pages without any nothing", () => {
  const loaded = { ...loadedLayer({ synthesized: MADE }), madeRows: Int32Array.from([0, -1]), madeReached: Float32Array.from([2.5]) };
  assert.equal(describeSynthesis(loaded, page(loaded.layer), 1), "No image was synthesized for this channel.");
  assert.equal(describeSynthesis(loadedLayer(), page(loaded.layer), 0), "No image was synthesized for conv1.");
  assert.equal(describeSynthesis(loadedLayer(), page(loadedLayer().layer), 0), "");
  assert.equal(describeSynthesis(loadedLayer({ kind: "difference" }), page(loaded.layer), 0), "");
});

test("the concepts of a channel come with their numbers, and the best in words", () => {
  const loaded = { ...loadedLayer({ concepts: CONCEPTS }), conceptOrder: Int32Array.from([1, 0, -1, -1]), conceptNumbers: Float32Array.from([0.5, 0.25, 0, 0, 0.125, 0.25, 0, 0, 0.0625, 0.5, 0, 0]) };
  const found = conceptsOf(loaded, 0);
  assert.deepEqual(found, [{ name: "bar", iou: 0.5, control: 0.125, spread: 0.0625 }, { name: "ring", iou: 0.25, control: 0.25, spread: 0.5 }]);
  const all = page(loaded.layer);
  assert.equal(
    describeConcepts(loaded, all, found),
    "Its most active 5 % of units coincide best with bar: an intersection over union of 0.500, 0.125 with the masks of other images (ticks), over 40 images. The best of 2 concepts has some margin by chance.",
  );
  assert.match(describeConcepts(loaded, { ...all, at: "post_activation" }, found), /5 % of units, before the nonlinearity, coincide/);
  assert.deepEqual(conceptsOf(loaded, 1), []);
  assert.match(describeConcepts(loaded, all, []), /^It is never active: .* in 40 images\.$/);
  assert.equal(describeConcepts(loadedLayer(), all, []), "conv1 was held against no concepts.");
  assert.equal(describeConcepts(loadedLayer(), page(loadedLayer().layer), []), "");
});
