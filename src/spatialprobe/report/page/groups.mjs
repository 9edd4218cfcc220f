/**
 * Layers in groups: of two models a layer's versions follow one another, those of both and their difference.
 */

/** @import { Payload } from "./data.mjs" */

/** @param {Payload} payload @returns {number} how many versions of each layer there are */
export function countVersions({ versions }) {
  return versions?.length || 1;
}

/** @param {Payload} payload @param {number} layer @returns {number} the layer's place among those with one name */
export function groupOf(payload, layer) {
  return Math.floor(layer / countVersions(payload));
}

/** @param {Payload} payload @param {number} group @param {number} layer that is shown now @returns {number} the layer of that place, in the version that is shown */
export function inGroup(payload, group, layer) {
  const count = countVersions(payload);
  return group * count + (layer % count);
}

/** @param {Payload} payload @param {number} layer @param {number} version @returns {number} the same layer in another version */
export function inVersion(payload, layer, version) {
  return groupOf(payload, layer) * countVersions(payload) + version;
}

/** @param {Payload} payload @returns {string[]} the name of each layer, without its version */
export function layerNames({ layers, versions }) {
  if (!versions?.length) return layers.map(({ name }) => name);
  return layers.filter((_, i) => i % versions.length === 0).map(({ name }) => name.slice(0, -versions[0].length - 2));
}
