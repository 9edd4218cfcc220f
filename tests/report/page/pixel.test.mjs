import assert from "node:assert/strict";
import test from "node:test";
import { findRegion, findResponses, sees } from "../../../src/spatialprobe/report/page/pixel.mjs";
import { loadedLayer } from "./layers.mjs";

test("a unit sees the pixels of its box, the last row and column left out", () => {
  const box = { z0: 0, y0: 1, x0: 2, z1: 1, y1: 3, x1: 4 };
  assert.ok(sees(box, { z: 0, y: 1, x: 2 }));
  assert.ok(!sees(box, { z: 0, y: 3, x: 2 }));
  assert.ok(!sees(null, { z: 0, y: 0, x: 0 }));
});

test("the units that see a pixel are those of a 3 x 3 convolution, cut by the border", () => {
  const loaded = loadedLayer();
  assert.deepEqual(findRegion(loaded.layer, loaded, 0, { z: 0, y: 0, x: 0 }), { z0: 0, y0: 0, x0: 0, z1: 1, y1: 2, x1: 2 });
  assert.deepEqual(findRegion(loaded.layer, loaded, 0, { z: 0, y: 1, x: 1 }), { z0: 0, y0: 0, x0: 0, z1: 1, y1: 2, x1: 3 });
  assert.equal(findRegion(loaded.layer, loaded, 0, { z: 0, y: 9, x: 1 }), null);
});

test("boxes that differ from unit to unit are looked at one by one", () => {
  const loaded = loadedLayer({ boxes: { tables: [], byAxis: [false], of: null, exact: true, unknown: [] } });
  const table = new Int32Array(48);
  table.set([0, 0, 2, 1, 0, 0, 2, 1], 8 * 1);
  table.set([0, 0, 2, 1, 0, 0, 2, 1], 8 * 5);
  loaded.boxes = [table];
  assert.deepEqual(findRegion(loaded.layer, loaded, 0, { z: 0, y: 1, x: 0 }), { z0: 0, y0: 0, x0: 1, z1: 1, y1: 2, x1: 3 });
});

test("the channels that respond most are those with the largest magnitudes among the units that see the pixel", () => {
  const loaded = loadedLayer();
  loaded.codes[2] = 100;
  const [first, second] = findResponses(loaded, { z: 0, y: 0, x: 0 }, 5);
  assert.deepEqual([first.channel, first.y, first.x], [0, 0, 1]);
  assert.ok(Math.abs(first.value - 2) < 1e-12);
  assert.deepEqual([second.channel, second.value], [1, 0]);
  assert.equal(findResponses(loaded, { z: 0, y: 0, x: 0 }, 1).length, 1);
});

test("of a volume the units that see a voxel lie in some slices", () => {
  const loaded = loadedLayer({ axes: 3, depth: 3, height: 1, width: 2, units: [1, 2] });
  loaded.units = 6;
  loaded.boxes = [Int32Array.from([0, 2, 0, 2, 0, 2, 0, 2, 1, 3, 1, 3, 0, 2, 0, 2, 1, 3, 1, 3, 2, 4, 2, 4])];
  const voxel = { z: 2, y: 1, x: 0 };
  assert.deepEqual(findRegion(loaded.layer, loaded, 0, voxel), { z0: 1, y0: 0, x0: 0, z1: 3, y1: 1, x1: 1 });
  const [best] = findResponses(loaded, voxel, 1);
  assert.deepEqual([best.z, best.y, best.x], [1, 0, 0]);
});
