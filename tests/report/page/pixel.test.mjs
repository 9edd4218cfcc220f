import assert from "node:assert/strict";
import test from "node:test";
import { findRegion, findResponses, sees } from "../../../src/spatialprobe/report/page/pixel.mjs";
import { loadedLayer } from "./layers.mjs";

test("a unit sees the pixels of its box, the last row and column left out", () => {
  const box = { y0: 1, x0: 2, y1: 3, x1: 4 };
  assert.ok(sees(box, { y: 1, x: 2 }));
  assert.ok(!sees(box, { y: 3, x: 2 }));
  assert.ok(!sees(null, { y: 0, x: 0 }));
});

test("the units that see a pixel are those of a 3 x 3 convolution, cut by the border", () => {
  const loaded = loadedLayer();
  assert.deepEqual(findRegion(loaded.layer, loaded, 0, { y: 0, x: 0 }), { y0: 0, x0: 0, y1: 2, x1: 2 });
  assert.deepEqual(findRegion(loaded.layer, loaded, 0, { y: 1, x: 1 }), { y0: 0, x0: 0, y1: 2, x1: 3 });
  assert.equal(findRegion(loaded.layer, loaded, 0, { y: 9, x: 1 }), null);
});

test("boxes that differ from unit to unit are looked at one by one", () => {
  const loaded = loadedLayer({ boxes: { tables: [], byAxis: [false], of: null, exact: true, unknown: [] } });
  const table = new Int32Array(48);
  table.set([0, 0, 2, 1, 0, 0, 2, 1], 8 * 1);
  table.set([0, 0, 2, 1, 0, 0, 2, 1], 8 * 5);
  loaded.boxes = [table];
  assert.deepEqual(findRegion(loaded.layer, loaded, 0, { y: 1, x: 0 }), { y0: 0, x0: 1, y1: 2, x1: 3 });
});

test("the channels that respond most are those with the largest magnitudes among the units that see the pixel", () => {
  const loaded = loadedLayer();
  loaded.codes[2] = 100;
  const [first, second] = findResponses(loaded, { y: 0, x: 0 }, 5);
  assert.deepEqual([first.channel, first.y, first.x], [0, 0, 1]);
  assert.ok(Math.abs(first.value - 2) < 1e-12);
  assert.deepEqual([second.channel, second.value], [1, 0]);
  assert.equal(findResponses(loaded, { y: 0, x: 0 }, 1).length, 1);
});
