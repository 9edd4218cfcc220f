import assert from "node:assert/strict";
import test from "node:test";
import { describeTap, sumTaps, valuesOf, valuesOfImage } from "../../../src/spatialprobe/report/page/tap.mjs";
import { CODES, loadedLayer } from "./layers.mjs";

/** One kernel of 3 x 3 over each of two inputs: weights -1 to 1 in steps of 1/8, padding 1. */
function convolution(changes = {}) {
  const kernels = { shape: [2, 3, 3], codes: "", reach: "", inputs: "", of: 2, inColor: false, source: "", bias: "", steps: [1, 1, 1, 1, 1, 1], ...changes };
  const codes = Uint8Array.from({ length: 18 }, (_, i) => 127 + Math.round(((i % 9) - 4) / 4 * 127));
  return {
    kernels,
    loaded: {
      ...loadedLayer({ kernels }), kernels: codes, kernelReach: Float32Array.from([1]),
      kernelInputs: Int32Array.from([0, 1]), kernelBias: Float32Array.from([0.5]), codeBook: CODES,
    },
  };
}

test("values of a captured layer are zero in the padding, and unknown where they are not kept", () => {
  const values = valuesOf(loadedLayer({ channels: [3, 17] }));
  assert.equal(values(3, 0, 2), 4);
  assert.equal(values(3, -1, 0), 0);
  assert.equal(values(3, 0, 3), 0);
  assert.ok(Number.isNaN(values(4, 0, 0)));
  assert.ok(Number.isNaN(valuesOf(loadedLayer({ every: 2, units: [4, 6] }))(0, 1, 0)));
});

test("values of the image are read off its pixels, between their least and greatest value", () => {
  const values = valuesOfImage(Uint8ClampedArray.from([0, 255, 51, 255]), { height: 1, width: 1, low: -1, high: 4 });
  assert.deepEqual([values(0, 0, 0), values(1, 0, 0), values(2, 0, 0), values(0, 0, 1)], [-1, 4, 0, 0]);
});

test("products add up to what a plain loop gives", () => {
  const { loaded, kernels } = convolution();
  const values = (input, y, x) => (y < 0 || x < 0 || y > 1 || x > 2 ? 0 : 1 + input + y + 10 * x);
  const parts = sumTaps(loaded, kernels, 0, 1, 2, { input: 1, row: 0, column: 1 }, values);
  let [kernel, shown] = [0, 0];
  for (let at = 0; at < 18; at++) {
    const [input, row, column] = [Math.floor(at / 9), Math.floor((at % 9) / 3), at % 3];
    const product = Math.round((3 * row + column - 4) / 4 * 127) / 127 * values(input, row, 1 + column);
    shown += product;
    if (input === 1) kernel += product;
  }
  assert.ok(Math.abs(parts.shown - shown) < 1e-9 && Math.abs(parts.kernel - kernel) < 1e-9);
  assert.equal(parts.value, values(1, 0, 2));
  assert.ok(Math.abs(parts.weight + 95 / 127) < 1e-9 && parts.known && parts.bias === 0.5);
});

test("a weight is described with its product and the sums, and what is not known is said", () => {
  const { kernels } = convolution();
  const parts = { value: 2, weight: -0.5, kernel: 1, shown: 3, bias: 0.5, known: true };
  const tap = { input: 1, row: 0, column: 2 };
  assert.equal(
    describeTap(parts, tap, 1, kernels, 3.52, false),
    "Weight row 0, column 2 over input 1: 2 × -0.5 = -1. All 9 of that input: 1; 2 inputs: 3; bias 0.5. With rounding, 0.02, the unit's 3.52.",
  );
  assert.match(describeTap(parts, tap, 1, kernels, 3.5, true), /Together 3\.5; 3\.5 after what follows, up to the nonlinearity\.$/);
  assert.match(describeTap(parts, tap, 1, { ...kernels, of: 64 }, 4, false), /the 2 inputs shown: 3; .* With the other inputs and rounding, 0\.5,/);
  assert.match(describeTap({ ...parts, known: false }, tap, 1, kernels, 4, false), /Of other weights the page does not hold the input\.$/);
  assert.match(describeTap({ ...parts, value: NaN }, tap, 1, kernels, 4, false), /-0\.5\. This page does not hold the input there\.$/);
});
