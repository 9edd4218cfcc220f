import assert from "node:assert/strict";
import test from "node:test";
import { valuesOver } from "../../../src/spatialprobe/report/page/over.mjs";
import { bySize, payloadOf } from "../../../src/spatialprobe/report/page/sizes.mjs";
import { INPUT, loadedLayer, payload } from "./layers.mjs";

test("images of another size have another input and other units, and share all else", () => {
  const { layer } = loadedLayer();
  const whole = payload([layer, { ...layer, name: "conv2" }]);
  const grid = { ...layer, height: 4, width: 5, units: [4, 5] };
  whole.images[1].size = 1;
  whole.sizes = [{ input: { ...INPUT, height: 4, width: 5 }, layers: [grid, grid].map(({ height, width, units }) => ({ height, width, units })) }];
  const sizes = bySize(whole);
  assert.equal(payloadOf(sizes, 0), whole);
  const other = payloadOf(sizes, 1);
  assert.deepEqual([other.input.height, other.layers[1].units, other.layers[1].name, other.layers[1].boxes], [4, [4, 5], "conv2", layer.boxes]);
  assert.deepEqual(bySize(payload([layer])).length, 1);
});

test("a map over a volume is read where its slices lie on the picture, and is 0 beside the last", () => {
  const values = Float64Array.from({ length: 2 * 1 * 2 }, (_, at) => at + 1); // two slices of one row of two units
  const lines = [[0, 0, 1], [0, 0], [0, 1, 1]].map((line) => Int32Array.from(line));
  const valueOf = valuesOver(values, { height: 1, width: 2 }, lines, { ...INPUT, height: 2, width: 3, depth: 3, columns: 2 });
  assert.deepEqual([valueOf(0, 0), valueOf(1, 1), valueOf(3, 0), valueOf(2, 3), valueOf(0, 2)], [1, 2, 1, 4, 3]);
  assert.equal(valueOf(3, 2), 0);
});
