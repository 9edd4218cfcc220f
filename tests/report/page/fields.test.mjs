import assert from "node:assert/strict";
import test from "node:test";
import { boxAt, boxOf, cutSides, isCut, isInside } from "../../../src/spatialprobe/report/page/fields.mjs";
import { INPUT, loadedLayer } from "./layers.mjs";

test("boxes by axis are joined from a row's and a column's interval", () => {
  const box = boxOf(loadedLayer(), 0, 1, 2);
  assert.deepEqual(box, { y0: 0, x0: 1, y1: 2, x1: 3, z0: 0, z1: 1, Y0: 0, X0: 1, Y1: 3, X1: 4, Z0: 0, Z1: 1 });
});

test("boxes by unit are read from eight numbers each, channel by channel where channels differ", () => {
  const loaded = loadedLayer({ boxes: { tables: [], byAxis: [false, false], of: [1, 0], exact: true, unknown: [] } });
  const table = new Int32Array(48);
  table.set([1, 2, 3, 4, -1, -2, 5, 6], 8 * 4);
  loaded.boxes = [new Int32Array(48), table];
  assert.deepEqual(boxOf(loaded, 0, 1, 1), { y0: 1, x0: 2, y1: 3, x1: 4, z0: 0, z1: 1, Y0: -1, X0: -2, Y1: 5, X1: 6, Z0: 0, Z1: 1 });
  assert.equal(boxOf(loaded, 1, 1, 1), null);
});

test("the border cuts the sides that reach beyond the input", () => {
  const box = boxOf(loadedLayer(), 0, 0, 0);
  assert.deepEqual(cutSides(box, { height: 2, width: 3 }), { top: true, bottom: false, left: true, right: false });
  assert.ok(isCut(box, INPUT));
  assert.ok(!isCut({ Y0: 0, X0: 0, Z0: 0, Y1: 2, X1: 3, Z1: 1 }, INPUT));
  assert.ok(isCut({ Y0: 0, X0: 0, Z0: 0, Y1: 2, X1: 3, Z1: 2 }, INPUT));
});

test("a place in a map of every second row and column is the unit at twice its numbers", () => {
  const loaded = loadedLayer({ every: 2, height: 1, width: 2 });
  assert.deepEqual(boxAt(loaded, 0, { z: 0, y: 0, x: 1 }), boxOf(loaded, 0, 0, 2));
});

test("units count whose field lies inside the input, and the middle of the map where none does", () => {
  const loaded = loadedLayer();
  assert.ok(!isInside(loaded, 0, INPUT)({ z: 0, y: 0, x: 0 }));
  const wide = isInside(loaded, 0, { ...INPUT, height: 9, width: 9 });
  assert.deepEqual([0, 1].map((at) => wide({ z: 0, y: at, x: at })), [false, true]);
  const roomy = loadedLayer({ height: 3, width: 3 });
  assert.deepEqual([[0, 1], [1, 1]].map(([y, x]) => isInside({ ...roomy, boxes: [new Int32Array(24)] }, 0, INPUT)({ z: 0, y, x })), [false, true]);
});

test("boxes of volumes have slices, by axis and unit by unit", () => {
  const lines = loadedLayer({ axes: 3, depth: 2, units: [1, 2] });
  lines.boxes = [Int32Array.from([0, 3, -1, 3, 0, 2, 0, 2, 1, 4, 1, 4, 0, 5, -2, 5, 3, 9, 3, 9])];
  const box = { y0: 0, x0: 1, y1: 3, x1: 4, z0: 3, z1: 9, Y0: -1, X0: 1, Y1: 3, X1: 4, Z0: 3, Z1: 9 };
  assert.deepEqual(boxOf(lines, 0, 0, 1, 1), box);
  const units = loadedLayer({ axes: 3, depth: 2, units: [1, 2], boxes: { tables: [], byAxis: [false], of: null, exact: true, unknown: [] } });
  units.boxes = [new Int32Array(48)];
  units.boxes[0].set([0, 1, 3, 4, -1, 1, 3, 4, 3, 9, 3, 9], 36);
  assert.deepEqual(boxOf(units, 0, 0, 1, 1), box);
  assert.equal(boxOf(units, 0, 0, 1, 0), null);
});
