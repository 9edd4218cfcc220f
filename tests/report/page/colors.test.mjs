import assert from "node:assert/strict";
import test from "node:test";
import { colorTable, cssColor, levelOf, packColor, scaleOf, unpackPalettes } from "../../../src/spatialprobe/report/page/colors.mjs";
import { CODES, loadedLayer, payload } from "./layers.mjs";

const ramp = Buffer.from(Uint8Array.from({ length: 3 * CODES.levels }, (_, i) => Math.floor(i / 3))).toString("base64");

function example(changes) {
  const loaded = loadedLayer(changes);
  const all = { ...payload([loaded.layer, { ...loaded.layer, reach: 40 }]), palettes: { signed: ramp, plain: ramp } };
  return { loaded, all, palettes: unpackPalettes(all) };
}

test("colors are packed as a canvas of 32-bit pixels holds them", () => {
  assert.equal(packColor([1, 2, 3]), 0xff030201);
  assert.equal(cssColor(packColor([220, 20, 60])), "rgb(220,20,60)");
});

test("a palette is unpacked color by color", () => {
  const { palettes } = example();
  assert.equal(palettes.plain.length, CODES.levels);
  assert.equal(palettes.plain[7], packColor([7, 7, 7]));
});

test("each scale reaches as far as it says", () => {
  const { loaded, all, palettes } = example({ signed: true, reach: 10, robust: 6 });
  const range = (name) => (({ low, high }) => [low, high])(scaleOf(loaded, 0, name, all, palettes));
  assert.deepEqual(range("map"), [-4, 4]);
  assert.deepEqual(range("robust"), [-6, 6]);
  assert.deepEqual(range("layer"), [-10, 10]);
  assert.deepEqual(range("all"), [-40, 40]);
  assert.deepEqual((({ low, high }) => [low, high])(scaleOf(loaded, 1, "map", all, palettes)), [-1, 1]);
});

test("values beyond a scale take its end, and codes the color of what they stand for", () => {
  const { loaded, all, palettes } = example();
  const scale = scaleOf(loaded, 0, "layer", all, palettes);
  assert.deepEqual([-1, 0, 2, 4, 9].map((value) => levelOf(value, scale)), [0, 0, 120, 240, 240]);
  const table = colorTable(loaded, 0, scale, palettes);
  assert.equal(table[254], palettes.plain[240]);
  assert.equal(table[CODES.nonfinite], palettes.crimson);
});
