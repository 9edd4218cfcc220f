import assert from "node:assert/strict";
import test from "node:test";
import { boxAt, boxOf, cutSides, isCut, isInside } from "../../../src/spatialprobe/report/page/fields.mjs";
import { loadedLayer } from "./layers.mjs";

test("boxes by axis are joined from a row's and a column's interval", () => {
  const box = boxOf(loadedLayer(), 0, 1, 2);
  assert.deepEqual(box, { y0: 0, x0: 1, y1: 2, x1: 3, Y0: 0, X0: 1, Y1: 3, X1: 4 });
});

test("boxes by unit are read from eight numbers each, channel by channel where channels differ", () => {
  const loaded = loadedLayer({ boxes: { tables: [], byAxis: [false, false], of: [1, 0], exact: true, unknown: [] } });
  const table = new Int32Array(48);
  table.set([1, 2, 3, 4, -1, -2, 5, 6], 8 * 4);
  loaded.boxes = [new Int32Array(48), table];
  assert.deepEqual(boxOf(loaded, 0, 1, 1), { y0: 1, x0: 2, y1: 3, x1: 4, Y0: -1, X0: -2, Y1: 5, X1: 6 });
  assert.equal(boxOf(loaded, 1, 1, 1), null);
});

test("the border cuts the sides that reach beyond the input", () => {
  const box = boxOf(loadedLayer(), 0, 0, 0);
  assert.deepEqual(cutSides(box, { height: 2, width: 3 }), { top: true, bottom: false, left: true, right: false });
  assert.ok(isCut(box, { height: 2, width: 3 }));
  assert.ok(!isCut({ Y0: 0, X0: 0, Y1: 2, X1: 3 }, { height: 2, width: 3 }));
});

test("a place in a map of every second row and column is the unit at twice its numbers", () => {
  const loaded = loadedLayer({ every: 2, height: 1, width: 2 });
  assert.deepEqual(boxAt(loaded, 0, 0, 1), boxOf(loaded, 0, 0, 2));
});

test("units count whose field lies inside the input, and the middle of the map where none does", () => {
  const loaded = loadedLayer();
  assert.ok(!isInside(loaded, 0, { height: 2, width: 3 })(0, 0));
  const wide = isInside(loaded, 0, { height: 9, width: 9 });
  assert.deepEqual([wide(0, 0), wide(1, 1)], [false, true]);
  const roomy = loadedLayer({ height: 3, width: 3 });
  assert.deepEqual([[0, 1], [1, 1]].map(([y, x]) => isInside({ ...roomy, boxes: [new Int32Array(24)] }, 0, { height: 2, width: 3 })(y, x)), [false, true]);
});
