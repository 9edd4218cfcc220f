import assert from "node:assert/strict";
import test from "node:test";
import {
  describeBox, describeChannel, describeLayer, describeOrder, describeScale, describeUnit, describeUnitPlace,
  formatCount, formatNumber, formatPercent, formatRange, joinWords, roundToStep,
} from "../../../src/spatialprobe/report/page/words.mjs";
import { loadedLayer, payload } from "./layers.mjs";

const INPUT = { height: 8, width: 8, depth: 1, axes: 2, columns: 1 };

test("numbers are short, and as exact as their step", () => {
  assert.equal(formatNumber(0.123456), "0.1235");
  assert.equal(formatNumber(Infinity), "none");
  assert.equal(formatPercent(1 / 3), "33.3 %");
  assert.equal(roundToStep(1.23456, 0.01), "1.235");
  assert.equal(roundToStep(1e20, 1e18), "100000000000000000000");
  assert.equal(formatCount(1, "row"), "1 row");
  assert.equal(formatCount(1200, "row"), "1,200 rows");
  assert.equal(formatRange("row", 3, 4), "row 3");
  assert.equal(formatRange("row", 3, 6), "rows 3-5");
  assert.equal(joinWords(["a", "b", "c"]), "a, b and c");
});

test("a box says rows, columns, and what the padding holds of it", () => {
  assert.equal(describeBox(null, INPUT), "It sees only padding, nothing of the input.");
  const inside = { y0: 1, x0: 2, y1: 4, x1: 3, z0: 0, z1: 1, Y0: 1, X0: 2, Y1: 4, X1: 3, Z0: 0, Z1: 1 };
  assert.equal(describeBox(inside, INPUT), "It sees rows 1-3, column 2 of the input.");
  const cut = { y0: 0, x0: 0, y1: 8, x1: 8, z0: 0, z1: 1, Y0: -1, X0: 0, Y1: 10, X1: 8, Z0: 0, Z1: 1 };
  assert.equal(
    describeBox(cut, INPUT),
    "It sees rows 0-7, columns 0-7 of the input, which is all of it. The border cuts its field: 1 row above it and 2 rows below it are padding.",
  );
});

test("a unit is named with its value and field, and a field that is not exact says why", () => {
  const loaded = loadedLayer();
  assert.equal(
    describeUnit(loaded, payload([loaded.layer]), 0, { z: 0, y: 0, x: 2 }),
    "Unit row 0, column 2 of conv1, channel 0: activation 4. It sees rows 0-1, columns 1-2 of the input. "
      + "The border cuts its field: 1 row above it and 1 column right of it are padding.",
  );
  loaded.layer.boxes = { ...loaded.layer.boxes, exact: false, unknown: ["aten::odd"] };
  assert.match(describeUnit(loaded, payload([loaded.layer]), 0, { z: 0, y: 0, x: 2 }), /may be smaller than shown, because of aten::odd\.$/);
});

test("layers, channels, orders and scales are described", () => {
  assert.equal(describeLayer(loadedLayer(), INPUT), "Conv2d, 2 channels of 2 x 3 units; each sees 3 x 3 pixels of the input.");
  assert.match(describeLayer(loadedLayer({ channels: [0, 5], of: 64 }), INPUT), /^Conv2d, 2 of 64 channels of/);
  const field = { size: [3, 3], stride: [1, 1], ignored: ["SEModule", "EcaModule"] };
  assert.match(describeLayer(loadedLayer({ field }), INPUT), /of the input, SEModule and EcaModule counted as constant gates\.$/);
  assert.equal(describeChannel(7, "dead"), "Channel 7, dead for this image");
  assert.equal(describeChannel(7, ""), "Channel 7");
  assert.equal(describeOrder(["", "dead", "dead"], "index"), "In the order of their numbers. Marked: 2 dead (zero everywhere, hatched).");
  assert.equal(describeScale("layer", 3, 0), "Color scale: one for all maps of this layer, 3 images.");
  assert.match(describeScale("robust", 1, 0.0042), /99\.5th percentile; 0\.42 % of this image's values beyond\.$/);
  assert.match(describeScale("robust", 1, 1e-6), /less than 0\.01 % of/);
  assert.match(describeScale("robust", 1, 0), /99\.5th percentile\.$/);
});

test("lines have positions and volumes have slices", () => {
  const box = { y0: 0, x0: 3, y1: 1, x1: 6, z0: 0, z1: 2, Y0: 0, X0: 3, Y1: 1, X1: 8, Z0: -1, Z1: 2 };
  const line = { ...INPUT, axes: 1, height: 1, width: 6 };
  assert.equal(
    describeBox({ ...box, z1: 1, Z0: 0, Z1: 1 }, line),
    "It sees positions 3-5 of the input. The border cuts its field: 2 positions after it are padding.",
  );
  assert.match(
    describeBox(box, { ...INPUT, axes: 3, depth: 9 }),
    /^It sees slices 0-1, row 0, columns 3-5 of the input\. .*: 1 slice before it are padding\.$/,
  );
  const signals = loadedLayer({ axes: 1, height: 1, units: [1, 6], field: { size: [3], stride: [1], ignored: [] } });
  assert.equal(describeLayer(signals, line), "Conv2d, 2 channels of 6 units; each sees 3 positions of the input.");
  assert.deepEqual([1, 2, 3].map((axes) => describeUnitPlace({ z: 1, y: 2, x: 3 }, axes)), ["3", "row 2, column 3", "slice 1, row 2, column 3"]);
});
