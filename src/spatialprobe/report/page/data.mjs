/**
 * The payload: what Python wrote into the page, and how its arrays are unpacked.
 *
 * Arrays are little-endian bytes, compressed by zlib, in base64. `report/payload.py` writes what this module reads.
 */

/** @typedef {{ height: number, width: number }} Size */
/** @typedef {{ name: string, answer: string | null, size?: number, signal?: PackedMaps }} ImageEntry `size`: which of the sizes of the inputs it has, 0 for the first; `signal`: the lines of a signal, one map a channel */
/** @typedef {{ differences: string[], numbers: string }} PackedMaps one text for each piece of the layer */
/** @typedef {{ tables: string[], byAxis: boolean[], of: number[] | null, exact: boolean, unknown: string[] }} PackedBoxes */
/** @typedef {{ shape: [number, number, number], codes: string, reach: string, inputs: string, of: number, inColor: boolean, depth: number, source?: string, bias?: string, steps?: number[] }} PackedKernels */
/**
 * A sheet of small patches, those of the first `ranks` exemplars of each channel, in the order of channels and ranks, in cells
 * `cell` wide and `tall` high, square if left out: of images, of volumes a slice with one of `every` rows and columns, or the
 * lines of signals, which fill theirs.
 * @typedef {{ sheet: string, cell: number, tall?: number, axes?: number, every?: number, columns: number, ranks: number, remarks: string[] }} PackedPatches
 */
/**
 * What a sweep found: statistics by name, and the top-activating samples with their patches; `hasBoxes`: whether the fields
 * on the page are those of the samples, too.
 * @typedef {{ samples: number, names: string[], numbers: string, values?: string, places?: string, columns?: number, hasBoxes?: boolean, patches?: PackedPatches }} PackedSweep
 */
/**
 * How a map lies over the input: `depth` slices of `height` rows of `width` units; `slices`, `rows` and `columns` say which
 * of them each slice, row and column of pixels shows, null along an axis that the input lacks.
 * @typedef {{ depth: number, height: number, width: number, slices: string | null, rows: string | null, columns: string }} PackedSpread
 */
/**
 * Inputs that drive channels up: of each kept channel which of them is its own, or -1, and the value that each reaches.
 * Each is `drawn` at so many rows and columns on a sheet of square cells; null where it is not. One `unit` was driven up,
 * or, where that is null, the mean over all.
 * @typedef {{ rows: string, reached: string, best: string | null, unmoved: number[], size: number[], drawn: [number, number] | null, unit: string | null, bounds: [number, number], sheet: { sheet: string, cell: number, columns: number, remarks: string[] } | null }} PackedSynthesis
 */
/**
 * Of each kept channel so many concepts as are `listed`, those with the largest margins, and three numbers of each.
 * @typedef {{ names: string[], listed: number, order: string, numbers: string, reach: number, at: string, images: number, shuffles: number, quantile: number }} PackedConcepts
 */
/** @typedef {{ spreads: PackedSpread[], of: number[], maps: PackedMaps[] }} PackedOver signed maps over the input, one an image, and which spread each has */
/**
 * What channels contribute to the score, and how far it falls without each alone, (images, channels); and what
 * removing the top ones did, a sentence an image.
 * @typedef {{ channels: string, ablated: string, over: PackedOver | null, checks: string[] }} PackedContributions
 */
/** @typedef {{ words: string[], values: number[], reach: number }} Score of each image, what it is of, and the end of the scale of all contributions over the input */
/** @typedef {{ name: string, reach: number, over: PackedOver }} OverlayEntry */
/**
 * One layer. `channels` lists the channels that the page keeps, null for all; `of` counts all. Maps hold `height` rows
 * of `width` units, one of `every` rows and columns of the layer's `units`. They lie in `pieces` of so many channels with one
 * of so many rows and columns, in an `order` of their own, null for that of the channels. A layer has one, two or three
 * `axes` of units: a line lies in one row, a volume has `depth` slices of such maps, all of which are kept.
 * @typedef {{ name: string, kind: string, of: number, channels: number[] | null, height: number, width: number, depth: number, axes: number, every: number, units: [number, number], signed: boolean, reach: number, robust: number, pieces: [number, number][], order: string | null, maps: PackedMaps[], boxes: PackedBoxes, field: { size: number[], stride: number[], ignored: string[] }, kernels: PackedKernels | null, sweep: PackedSweep | null, synthesized?: PackedSynthesis | null, concepts?: PackedConcepts | null, contributions?: PackedContributions | null }} LayerEntry
 */
/**
 * How values are written as codes: code k of 0 to `steps` lies between a map's least and greatest value; `levels`
 * counts the colors of a palette.
 * @typedef {{ steps: number, nonfinite: number, levels: number }} Codes
 */
/**
 * Of a signal, with one of `axes`, `width` counts the values. The `depth` slices of a volume lie in rows of so many `columns` on its picture.
 * @typedef {Size & { axes: number, depth: number, columns: number, low: number, high: number }} Input
 */
/** @typedef {Pick<LayerEntry, "height" | "width" | "depth" | "units" | "boxes" | "field">} GridEntry the units of a layer for images of one size, and their fields */
/** @typedef {{ input: Input, layers: GridEntry[] }} SizeEntry another size of images than the first: what differs for it */
/** @typedef {{ at: string, input: Input, sizes?: SizeEntry[], images: ImageEntry[], codes: Codes, palettes: { signed: string, plain: string }, crimson: [number, number, number], samples: Record<string, [string, string]> | null, signals: { low: number[], high: number[] } | null, versions?: string[], score: Score | null, overlays: OverlayEntry[], layers: LayerEntry[] }} Payload */

/** @typedef {{ boxes: Int32Array[], kernels?: Uint8Array, kernelReach?: Float32Array, kernelInputs?: Int32Array, kernelBias?: Float32Array, statistics?: Float32Array, values?: Float32Array, places?: Int32Array, sheet?: HTMLImageElement, madeRows?: Int32Array, madeReached?: Float32Array, madeBest?: Float32Array, madeSheet?: HTMLImageElement, conceptOrder?: Int32Array, conceptNumbers?: Float32Array, contributions?: Float32Array, ablated?: Float32Array }} LayerArrays */
/**
 * The maps of one layer for one image: codes (C, H, W), five numbers a channel, of all units, and that one of so many rows and
 * columns of H and W was stored.
 * @typedef {{ codes: Uint8Array, low: Float64Array, high: Float64Array, mean: Float64Array, silent: Float64Array, nonfinite: Float64Array, steps: Uint8Array, count: number }} Maps
 */

/** @param {string} text base64 @returns {Uint8Array<ArrayBuffer>} */
export function decodeBase64(text) {
  const native = /** @type {{ fromBase64?: (text: string) => Uint8Array<ArrayBuffer> }} */ (/** @type {unknown} */ (Uint8Array));
  if (native.fromBase64) return native.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** @param {string} text a compressed array @returns {Promise<ArrayBuffer>} its bytes */
export async function inflate(text) {
  const stream = new Blob([decodeBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** @param {PackedMaps} packed @param {Size & { depth: number, every: number, pieces: [number, number][], order: string | null }} layer as they are stored @returns {Promise<Maps>} */
export async function unpackMaps(packed, layer) {
  const [numbers, order, ...pieces] = await Promise.all([packed.numbers, layer.order, ...packed.differences].map((text) => text && inflate(text)));
  const all = new Float64Array(/** @type {ArrayBuffer} */ (numbers));
  const count = all.length / 5;
  const [low, high, mean, silent, nonfinite] = [0, 1, 2, 3, 4].map((row) => all.subarray(row * count, (row + 1) * count));
  const rows = { height: layer.depth * layer.height, width: layer.width };
  const codes = new Uint8Array(count * rows.height * rows.width);
  const steps = new Uint8Array(count);
  const places = order && new Int32Array(order);
  let at = 0;
  layer.pieces.forEach(([size, step], i) => {
    const found = new Uint8Array(/** @type {ArrayBuffer} */ (pieces[i]));
    for (let k = 1; k < found.length; k++) found[k] += found[k - 1];
    for (let k = 0; k < size; k++, at++) {
      const channel = places ? places[at] : at;
      steps[channel] = step / layer.every;
      place(found.subarray((k * found.length) / size, ((k + 1) * found.length) / size), codes, channel, steps[channel], rows, layer.height);
    }
  });
  return { codes, low, high, mean, silent, nonfinite, steps, count };
}

/** @param {Uint8Array} map one of `step` rows and columns @param {Uint8Array} codes of all channels, to be filled: each unit that is not kept has the code of one before it @param {number} channel @param {number} step @param {Size} size of all slices, one below the other @param {number} tall rows of a slice */
function place(map, codes, channel, step, { height, width }, tall) {
  const start = channel * height * width;
  if (step === 1) return codes.set(map, start);
  const [across, down] = [Math.ceil(width / step), Math.ceil(tall / step)];
  for (let at = 0; at < height * width; at++) {
    const row = Math.floor(at / width);
    const kept = Math.floor(row / tall) * down + Math.floor((row % tall) / step);
    codes[start + at] = map[kept * across + Math.floor((at % width) / step)];
  }
}

/** @param {LayerEntry} layer @returns {Promise<LayerArrays>} what is the same for all images */
export async function unpackLayer(layer) {
  /** @type {LayerArrays} */
  const arrays = { boxes: await Promise.all(layer.boxes.tables.map(async (table) => new Int32Array(await inflate(table)))) };
  if (layer.kernels) await unpackKernels(layer.kernels, arrays);
  if (layer.sweep) await unpackSweep(layer.sweep, arrays);
  if (layer.synthesized) await unpackSynthesis(layer.synthesized, arrays);
  if (layer.concepts) {
    arrays.conceptOrder = new Int32Array(await inflate(layer.concepts.order));
    arrays.conceptNumbers = new Float32Array(await inflate(layer.concepts.numbers));
  }
  if (layer.contributions) {
    arrays.contributions = new Float32Array(await inflate(layer.contributions.channels));
    arrays.ablated = new Float32Array(await inflate(layer.contributions.ablated));
  }
  return arrays;
}

/** @param {PackedKernels} packed @param {LayerArrays} arrays */
async function unpackKernels(packed, arrays) {
  arrays.kernels = new Uint8Array(await inflate(packed.codes));
  arrays.kernelReach = new Float32Array(await inflate(packed.reach));
  arrays.kernelInputs = new Int32Array(await inflate(packed.inputs));
  if (packed.bias) arrays.kernelBias = new Float32Array(await inflate(packed.bias));
}

/** @param {PackedSweep} packed @param {LayerArrays} arrays */
async function unpackSweep(packed, arrays) {
  arrays.statistics = new Float32Array(await inflate(packed.numbers));
  if (packed.values && packed.places) {
    arrays.values = new Float32Array(await inflate(packed.values));
    arrays.places = new Int32Array(await inflate(packed.places));
  }
  if (packed.patches) arrays.sheet = await decodePicture(packed.patches.sheet);
}

/** @param {PackedSynthesis} packed @param {LayerArrays} arrays */
async function unpackSynthesis(packed, arrays) {
  arrays.madeRows = new Int32Array(await inflate(packed.rows));
  arrays.madeReached = new Float32Array(await inflate(packed.reached));
  if (packed.best) arrays.madeBest = new Float32Array(await inflate(packed.best));
  if (packed.sheet) arrays.madeSheet = await decodePicture(packed.sheet.sheet);
}

/** @param {string} uri of data @returns {Promise<HTMLImageElement>} */
async function decodePicture(uri) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  return picture;
}
