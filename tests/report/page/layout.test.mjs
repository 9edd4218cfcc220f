import assert from "node:assert/strict";
import test from "node:test";
import { GAP, fitInto, layOutKernels, layOutMosaic, layOutPatches, tileAt, tilePlace } from "../../../src/spatialprobe/report/page/layout.mjs";

for (const count of [1, 2, 6, 64, 512, 2048]) {
  for (const width of [280, 520, 900]) {
    test(`${count} tiles lie within a width of ${width}, and each is found where it lies`, () => {
      const grid = layOutMosaic(count, width, 500, 1);
      assert.ok(grid.columns * (grid.tile + GAP) - GAP <= width + 1e-9);
      assert.ok(grid.columns * grid.rows >= count);
      for (const i of [0, count - 1]) {
        const { left, top } = tilePlace(i, grid);
        assert.equal(tileAt(left + 1, top + 1, grid, count), i);
      }
      assert.equal(tileAt(width + 500, 0, grid, count), -1);
      assert.equal(tileAt(0, grid.rows * grid.cell + 1, grid, count), -1);
    });
  }
}

test("a mosaic takes more columns only as long as it does not fit and tiles stay readable", () => {
  assert.ok(layOutMosaic(6, 520, 1000, 1).tile > 100);
  assert.ok(layOutMosaic(64, 520, 500, 1).tile >= 38);
  assert.ok(layOutMosaic(2048, 280, 500, 1).tile >= 38);
});

test("a picture fits its room without changing its shape", () => {
  assert.deepEqual(fitInto({ width: 10, height: 20 }, 300, 300), { width: 150, height: 300 });
  assert.deepEqual(fitInto({ width: 40, height: 10 }, 200, 300), { width: 200, height: 50 });
});

test("kernels and patches take the columns that fit, one at least", () => {
  assert.equal(layOutKernels(64, 300).columns, 8);
  assert.equal(layOutKernels(1, 40).columns, 1);
  assert.equal(layOutPatches(9, 400, 8).columns, 9);
  assert.deepEqual(layOutPatches(9, 340, 8), { columns: 5, tile: 61 });
  assert.deepEqual(layOutPatches(3, 30, 8), { columns: 1, tile: 34 });
});
