/**
 * Small layers, made by hand, as the page holds them once they are unpacked.
 */

export const INPUT = { height: 2, width: 3, depth: 1, axes: 2, columns: 1 };
export const CODES = { steps: 254, nonfinite: 255, levels: 241 };

/** Two channels of 2 x 3 units: channel 0 from 0 to 4, channel 1 dead; boxes of a 3 x 3 convolution with padding 1. */
export function loadedLayer(changes = {}) {
  const layer = {
    name: "conv1",
    kind: "Conv2d",
    ...{ of: 2, channels: null },
    height: 2,
    width: 3,
    ...{ depth: 1, axes: 2 },
    every: 1,
    units: [2, 3],
    signed: false,
    reach: 4,
    robust: 4,
    pieces: [[2, 1]],
    order: null,
    maps: [],
    boxes: { tables: [], byAxis: [true], of: null, exact: true, unknown: [] },
    field: { size: [3, 3], stride: [1, 1], ignored: [] },
    kernels: null,
    sweep: null,
    ...changes,
  };
  return {
    layer,
    index: 0,
    image: 0,
    units: 6,
    count: 2,
    codeBook: CODES,
    codes: Uint8Array.from([0, 127, 254, 10, 20, 30, 0, 0, 0, 0, 0, 0]),
    low: Float64Array.from([0, 0]),
    high: Float64Array.from([4, 0]),
    mean: Float64Array.from([1.2, 0]),
    silent: Float64Array.from([1 / 6, 1]),
    nonfinite: Float64Array.from([0, 0]),
    steps: Uint8Array.from([1, 1]),
    marks: ["", "dead"],
    boxes: [Int32Array.from([0, 2, -1, 2, 0, 2, 0, 3, 0, 2, -1, 2, 0, 3, 0, 3, 1, 3, 1, 4])],
  };
}

export function payload(layers) {
  return {
    at: "output",
    input: INPUT,
    images: [{ name: "0", answer: null }, { name: "1", answer: "cat" }],
    codes: CODES,
    palettes: { signed: "", plain: "" },
    crimson: [220, 20, 60],
    samples: null,
    signals: null,
    layers,
  };
}
