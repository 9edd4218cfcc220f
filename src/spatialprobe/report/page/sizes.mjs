/**
 * Images of several sizes: the payload as it is for one of them. Nothing here touches the document.
 */

/** @import { Payload } from "./data.mjs" */

/** @param {Payload} payload as Python wrote it, for the first size @returns {Payload[]} one for each size, which differ in the input and in the layers' units */
export function bySize(payload) {
  const others = (payload.sizes ?? []).map(({ input, layers }) => ({
    ...payload,
    input,
    layers: payload.layers.map((layer, index) => ({ ...layer, ...layers[index] })),
  }));
  return [payload, ...others];
}

/** @param {Payload[]} sizes @param {number} image @returns {Payload} that of the image's size */
export function payloadOf(sizes, image) {
  return sizes[sizes[0].images[image].size ?? 0];
}
