import assert from "node:assert/strict";
import test from "node:test";
import { deflateSync } from "node:zlib";
import { decodeBase64, inflate, unpackLayer, unpackMaps } from "../../../src/spatialprobe/report/page/data.mjs";
import { keptUnit } from "../../../src/spatialprobe/report/page/values.mjs";
import { loadedLayer } from "./layers.mjs";

const pack = (array) => deflateSync(Buffer.from(array.buffer)).toString("base64");

test("base64 is decoded with and without the browser's own decoder", () => {
  const bytes = Uint8Array.from([0, 1, 254, 255]);
  assert.deepEqual(decodeBase64(Buffer.from(bytes).toString("base64")), bytes);
});

test("compressed arrays come back", async () => {
  const numbers = Float64Array.from([1.5, -2, 1e300]);
  assert.deepEqual(new Float64Array(await inflate(pack(numbers))), numbers);
});

test("maps are the running sums of their differences, modulo 256, with five numbers a channel", async () => {
  const maps = await unpackMaps({
    differences: [pack(Uint8Array.from([250, 4, 3, 0]))],
    numbers: pack(Float64Array.from([-1, -2, 1, 2, 0, 0.5, 0.25, 0.75, 0, 1])),
  }, loadedLayer({ height: 1, width: 2 }).layer);
  assert.deepEqual([...maps.codes], [250, 254, 1, 1]);
  assert.deepEqual([maps.low, maps.high, maps.mean, maps.silent, maps.nonfinite].map((row) => [...row]), [[-1, -2], [1, 2], [0, 0.5], [0.25, 0.75], [0, 1]]);
  assert.equal(maps.count, 2);
});

test("pieces have an order of their own, and the units that are not kept of a coarse map the codes of those before them", async () => {
  const layer = loadedLayer({ height: 3, width: 3, pieces: [[1, 1], [1, 2]], order: pack(Int32Array.from([1, 0])) }).layer;
  const maps = await unpackMaps({
    differences: [pack(Uint8Array.from([1, 1, 1, 1, 1, 1, 1, 1, 1])), pack(Uint8Array.from([5, 1, 1, 1]))],
    numbers: pack(new Float64Array(10)),
  }, layer);
  assert.deepEqual([...maps.codes], [5, 5, 6, 5, 5, 6, 7, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual([...maps.steps], [2, 1]);
  assert.deepEqual([2, 1].map((y) => keptUnit(maps, 0, { z: 0, y, x: 1 })), [{ z: 0, y: 2, x: 0 }, { z: 0, y: 0, x: 0 }]);
  assert.deepEqual(keptUnit(maps, 1, { z: 0, y: 1, x: 1 }), { z: 0, y: 1, x: 1 });
});

test("of a coarse volume every slice is kept", async () => {
  const layer = loadedLayer({ axes: 3, depth: 2, height: 3, width: 1, pieces: [[1, 2]] }).layer;
  const maps = await unpackMaps({ differences: [pack(Uint8Array.from([1, 1, 1, 1]))], numbers: pack(new Float64Array(5)) }, layer);
  assert.deepEqual([...maps.codes], [1, 1, 2, 3, 3, 4]);
});

test("a layer without kernels and sweep has boxes alone", async () => {
  const arrays = await unpackLayer({ boxes: { tables: [pack(Int32Array.from([0, 3]))] }, kernels: null, sweep: null });
  assert.deepEqual(Object.keys(arrays), ["boxes"]);
  assert.deepEqual([...arrays.boxes[0]], [0, 3]);
});
