/**
 * The one object that changes: what is shown now, and what was loaded for it.
 */

/** @import { LayerArrays, Maps, Payload } from "./data.mjs" */
/** @import { Palettes, Scale } from "./colors.mjs" */
/** @import { Grid } from "./layout.mjs" */
/** @import { Pixel, Region } from "./pixel.mjs" */
/** @import { Panels } from "./slices.mjs" */
/** @import { State, Wish } from "./state.mjs" */
/** @import { Tap, Values } from "./tap.mjs" */
/** @import { Loaded, Unit } from "./values.mjs" */
import { scaleOf, unpackPalettes } from "./colors.mjs";
import { unpackLayer, unpackMaps } from "./data.mjs";
import { bySize, payloadOf } from "./sizes.mjs";
import { initialState } from "./state.mjs";
import { joinLayer, keptUnit } from "./values.mjs";

/**
 * @typedef {object} App
 * @property {Payload} payload of the size of the image that is shown
 * @property {Payload[]} sizes the same for each size of images
 * @property {Palettes} palettes
 * @property {HTMLImageElement[]} pictures the input images, which are part of the page
 * @property {State} state
 * @property {Unit | null} preview the unit that is pointed at
 * @property {number | null} peek the channel that is pointed at in the mosaic
 * @property {Pixel | null} pixel of the input that was clicked
 * @property {number | null} slice of the input that the reader chose, null for the middle of the field
 * @property {Panels | null} panels where a volume's slice and sections lie
 * @property {Maps[]} signals the lines of the input images, where these are signals and were loaded
 * @property {(Region | null)[]} regions the units that see it, layer by layer
 * @property {Loaded} shown the layer and image that are shown
 * @property {Loaded[]} siblings all versions of that layer: of two models, and their difference
 * @property {number[]} order of the channels in the mosaic
 * @property {Grid} grid of the mosaic
 * @property {Promise<void>} wallDrawn when the mosaic has all of its patches
 * @property {HTMLCanvasElement} mapPicture the chosen channel's map, one pixel a unit
 * @property {Wish} asked what was asked for and is not shown yet
 * @property {number} round counts drawings of the strip, so that one gives way to a newer
 * @property {number} request counts changes, so that a late one gives way to a newer
 * @property {{ tile: number, cell: number, columns: number, extra: number }} taps where the kernels lie in their picture
 * @property {Tap | null} tap the weight of the kernel that was clicked
 * @property {{ of: Loaded, values: Promise<Values> } | null} source what the layer's convolution took
 * @property {HTMLCanvasElement | null} over the input under what lies over it
 * @property {boolean} printing
 * @property {{ known: string, timer: number }} address as it was last read or written, and the timer that writes the next
 * @property {{ layers: Map<string, Promise<LayerArrays>>, loaded: Map<string, Promise<Loaded>>, samples: Map<number, HTMLImageElement> }} cache
 */

/** @param {Payload} payload @param {HTMLImageElement[]} pictures @returns {App} what is shown follows with the first change */
export function createApp(payload, pictures) {
  return /** @type {App} */ ({
    payload,
    sizes: bySize(payload),
    palettes: unpackPalettes(payload),
    pictures,
    state: initialState(payload),
    over: null,
    preview: null,
    peek: null,
    pixel: null,
    siblings: /** @type {Loaded[]} */ ([]),
    slice: null,
    panels: null,
    signals: /** @type {Maps[]} */ ([]),
    regions: /** @type {(Region | null)[]} */ ([]),
    order: /** @type {number[]} */ ([]),
    asked: {},
    request: 0,
    round: 0,
    tap: null,
    source: null,
    printing: false,
    address: { known: "", timer: 0 },
    cache: { layers: new Map(), loaded: new Map(), samples: new Map() },
  });
}

/** @template K, V @param {Map<K, V>} cache @param {K} key @param {() => V} make @returns {V} */
function once(cache, key, make) {
  const found = cache.get(key) ?? make();
  cache.set(key, found);
  return found;
}

/** @param {App} app @param {number} index @param {number} image @returns {Promise<LayerArrays>} what is the same for all images of its size */
export function loadArrays(app, index, image) {
  const payload = payloadOf(app.sizes, image);
  return once(app.cache.layers, `${index} ${app.sizes.indexOf(payload)}`, () => unpackLayer(payload.layers[index]));
}

/** @param {App} app @param {number} image Unpack its lines, where it is a signal. */
export async function loadSignal(app, image) {
  const { input, images, signals } = payloadOf(app.sizes, image);
  const { signal } = images[image];
  if (!signal || !signals || app.signals[image]) return;
  app.signals[image] = await unpackMaps(signal, { height: 1, width: input.width, depth: 1, every: 1, pieces: [[signals.low.length, 1]], order: null });
}

/** @param {App} app @param {number} index @param {number} image @returns {Promise<Loaded>} */
export function loadLayer(app, index, image) {
  const { codes, layers } = payloadOf(app.sizes, image);
  const layer = layers[index];
  return once(app.cache.loaded, `${index} ${image}`, async () => {
    const [arrays, maps] = await Promise.all([
      loadArrays(app, index, image),
      unpackMaps(layer.maps[image], layer),
      app.pictures[image].decode(),
      loadSignal(app, image),
    ]);
    return joinLayer(layer, index, image, arrays, maps, codes);
  });
}

/** @param {App} app @param {number} channel @returns {Scale} the one in which this channel's map is drawn */
export function currentScale(app, channel) {
  return scaleOf(app.shown, channel, app.state.scale, app.payload, app.palettes);
}

/** @param {App} app @returns {number} the channel that is shown large: pointed at, or chosen */
export function currentChannel(app) {
  return app.peek ?? app.state.channel;
}

/** @param {App} app @returns {Unit} the unit that is spoken of: pointed at, or chosen */
export function currentUnit(app) {
  return keptUnit(app.shown, currentChannel(app), app.preview ?? app.state);
}
