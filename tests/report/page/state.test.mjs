import assert from "node:assert/strict";
import test from "node:test";
import { formatAddress, initialState, nextState, parseAddress } from "../../../src/spatialprobe/report/page/state.mjs";
import { INPUT, loadedLayer, payload } from "./layers.mjs";

const HOSTILE = "</script> / ? # % 100";

test("an address is read back as it was written, also with a hostile name", () => {
  const loaded = loadedLayer({ name: HOSTILE });
  const state = { ...initialState(), image: 1, scale: "all", wall: "patches", order: "strength", channel: 1, y: 1, x: 2 };
  const address = formatAddress(state, state, loaded);
  assert.ok(!address.slice(1).includes("#"));
  assert.deepEqual(parseAddress(address, payload([loaded.layer])), { layer: 0, channel: 1, y: 1, x: 2, z: 0, image: 1, scale: "all", wall: "patches", order: "strength", over: 0 });
});

test("channels in an address are the model's numbers", () => {
  const loaded = loadedLayer({ channels: [3, 17] });
  assert.equal(formatAddress({ ...initialState(), channel: 1 }, { y: 0, x: 1 }, loaded), "#conv1/17/0/1");
  assert.equal(parseAddress("#conv1/17/0/1", payload([loaded.layer])).channel, 1);
  assert.equal(parseAddress("#conv1/4/0/1", payload([loaded.layer])).channel, null);
});

test("addresses that make no sense ask for nothing, or leave it to the page", () => {
  const all = payload([loadedLayer().layer]);
  for (const address of ["", "#", "#nothing/1/2/3", "#%E0%A4%A/1"]) assert.deepEqual(parseAddress(address, all), {});
  const odd = parseAddress("#conv1/1/-4/x?image=9&scale=huge&order=1", all);
  assert.deepEqual(odd, { layer: 0, channel: 1, y: null, x: null, z: null, image: 0, scale: "robust", wall: "maps", order: "index", over: 0 });
});

test("a change keeps what it does not name, and stays within the layer", () => {
  const loaded = loadedLayer();
  const state = { ...initialState(), y: 1, x: 1 };
  assert.deepEqual(nextState(state, { channel: 9, x: 7 }, loaded, loaded, INPUT), { ...state, channel: 1, x: 2 });
});

test("another layer keeps the unit's place in the image", () => {
  const before = loadedLayer({ height: 20, width: 30 });
  const next = nextState({ ...initialState(), y: 15, x: 25 }, { layer: 1 }, loadedLayer(), before, INPUT);
  assert.deepEqual([next.y, next.x], [1, 2]);
});

test("units of a map that holds every second row and column keep the layer's numbers", () => {
  const loaded = loadedLayer({ every: 2 });
  assert.equal(formatAddress(initialState(), { y: 1, x: 2 }, loaded), "#conv1/0/2/4");
  const { y, x } = parseAddress("#conv1/0/2/5", payload([loaded.layer]));
  assert.deepEqual([y, x], [1, 2]);
});

test("what is left to the page is the richest channel at its strongest unit", () => {
  const loaded = loadedLayer();
  loaded.marks = ["dead", ""];
  const next = nextState(initialState(), { channel: null, y: null, x: null }, loaded, null, INPUT);
  assert.equal(next.channel, 1);
  assert.deepEqual([nextState(initialState(), { channel: 0, y: null, x: null }, loaded, null, INPUT).x], [1]);
});

test("the address of a volume's unit ends with its slice, which another layer keeps in proportion", () => {
  const loaded = loadedLayer({ axes: 3, depth: 4 });
  assert.equal(formatAddress(initialState(), { z: 3, y: 1, x: 2 }, loaded), "#conv1/0/1/2/3");
  assert.equal(parseAddress("#conv1/0/1/2/3", payload([loaded.layer])).z, 3);
  const next = nextState({ ...initialState(), z: 3 }, { layer: 1 }, loadedLayer({ axes: 3, depth: 2 }), loaded, INPUT);
  assert.equal(next.z, 1);
});
