"use strict";
(() => {
const id = (name) => document.getElementById(name);
if (typeof DecompressionStream === "undefined") return;
const data = JSON.parse(id("data").textContent);
const pictures = [...document.querySelectorAll("img.input")];
const NONFINITE = 255, STEPS = 254, LEVELS = 241, GAP = 6, LABEL = 16;
const state = { layer: 0, image: 0, scale: "layer", order: "index", channel: 0, y: 0, x: 0 };
const loaded = new Map();
let now = null;
let preview = null;
let order = [];
let grid = null;
let mapPicture = null;
let request = 0;
let asked = {};

// Data

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function inflate(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

const once = (key, make) => {
  if (!loaded.has(key)) loaded.set(key, make());
  return loaded.get(key);
};

async function constants(index) {
  const layer = data.layers[index];
  const made = { boxes: await Promise.all(layer.boxes.tables.map(async (table) => new Int32Array(await inflate(table)))) };
  if (layer.kernels) {
    made.kernels = new Uint8Array(await inflate(layer.kernels.codes));
    made.kernelReach = new Float32Array(await inflate(layer.kernels.reach));
    made.kernelInputs = new Int32Array(await inflate(layer.kernels.inputs));
  }
  if (layer.sweep) {
    made.statistics = new Float32Array(await inflate(layer.sweep.numbers));
    if (layer.sweep.values) {
      made.values = new Float32Array(await inflate(layer.sweep.values));
      made.places = new Int32Array(await inflate(layer.sweep.places));
    }
    if (layer.sweep.patches) {
      made.sheet = new Image();
      made.sheet.src = layer.sweep.patches.sheet;
      await made.sheet.decode();
    }
  }
  return made;
}

async function maps(layer, image) {
  const packed = data.layers[layer].maps[image];
  const [differences, numbers] = await Promise.all([inflate(packed.differences), inflate(packed.numbers)]);
  const codes = new Uint8Array(differences);
  for (let i = 1; i < codes.length; i++) codes[i] += codes[i - 1];
  const all = new Float64Array(numbers), count = all.length / 4;
  const [low, high, mean, silent] = [0, 1, 2, 3].map((row) => all.subarray(row * count, (row + 1) * count));
  return { codes, low, high, mean, silent, count };
}

async function load(index, image) {
  const [fixed, own] = await Promise.all([
    once(`${index}`, () => constants(index)),
    once(`${index} ${image}`, () => maps(index, image)),
    pictures[image].decode(),
  ]);
  const layer = data.layers[index];
  const units = layer.height * layer.width;
  const marks = Array.from({ length: own.count }, (_, c) => {
    const nonfinite = own.codes.subarray(c * units, (c + 1) * units).includes(NONFINITE);
    if (nonfinite) return "not finite";
    if (own.low[c] !== own.high[c] || units === 1) return "";
    return own.low[c] === 0 ? "dead" : "constant";
  });
  return { layer, index, image, units, marks, numberOf: (c) => (layer.channels ? layer.channels[c] : c), ...fixed, ...own };
}

// Numbers and words

const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const short = (value, digits = 4) => (Number.isFinite(value) ? `${Number(value.toPrecision(digits))}` : "none");
const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

function rounded(value, step) {
  const digits = Math.ceil(-Math.log10(step)) + 1;
  return digits >= 0 && digits < 12 ? `${Number(value.toFixed(digits))}` : short(value);
}

function valueAt(channel, y, x) {
  const code = now.codes[channel * now.units + y * now.layer.width + x];
  if (code === NONFINITE) return NaN;
  return now.low[channel] * (1 - code / STEPS) + now.high[channel] * (code / STEPS);
}

function valueWords(channel, y, x) {
  const value = valueAt(channel, y, x);
  if (Number.isNaN(value)) return "not finite";
  const step = (now.high[channel] - now.low[channel]) / STEPS;
  return step > 0 ? rounded(value, step) : short(value);
}

function boxOf(channel, y, x) {
  const { layer, boxes } = now;
  const which = layer.boxes.of ? layer.boxes.of[channel] : 0;
  const table = boxes[which];
  if (!layer.boxes.byAxis[which]) {
    const [y0, x0, y1, x1, Y0, X0, Y1, X1] = table.subarray(8 * (y * layer.width + x), 8 * (y * layer.width + x) + 8);
    return y1 > y0 && x1 > x0 ? { y0, x0, y1, x1, Y0, X0, Y1, X1 } : null;
  }
  const [y0, y1, Y0, Y1] = table.subarray(4 * y, 4 * y + 4);
  const [x0, x1, X0, X1] = table.subarray(4 * (layer.height + x), 4 * (layer.height + x) + 4);
  return y1 > y0 && x1 > x0 ? { y0, x0, y1, x1, Y0, X0, Y1, X1 } : null;
}

const range = (name, from, to) => (to - from === 1 ? `${name} ${from}` : `${name}s ${from}-${to - 1}`);

function seenWords(box) {
  if (!box) return "It sees only padding, nothing of the input.";
  const { height, width } = data.input;
  const whole = box.y0 === 0 && box.x0 === 0 && box.y1 === height && box.x1 === width;
  const words = [`It sees ${range("row", box.y0, box.y1)}, ${range("column", box.x0, box.x1)} of the input${whole ? ", which is all of it" : ""}.`];
  const beyond = [
    [-box.Y0, "row", "above"], [box.Y1 - height, "row", "below"],
    [-box.X0, "column", "left of"], [box.X1 - width, "column", "right of"],
  ].filter(([count]) => count > 0).map(([count, noun, side]) => `${many(count, noun)} ${side} it`);
  if (beyond.length) {
    const listed = beyond.length > 1 ? `${beyond.slice(0, -1).join(", ")} and ${beyond[beyond.length - 1]}` : beyond[0];
    words.push(`The border cuts its field: ${listed} are padding.`);
  }
  return words.join(" ");
}

function sentence(y, x) {
  const { layer } = now;
  const words = [
    `Unit row ${y}, column ${x} of ${layer.name}, channel ${now.numberOf(state.channel)}: activation ${valueWords(state.channel, y, x)}.`,
    seenWords(boxOf(state.channel, y, x)),
  ];
  if (!layer.boxes.exact) {
    words.push(`The field may be smaller than shown${layer.boxes.unknown.length ? `, for there is no rule for ${layer.boxes.unknown.join(", ")}` : ""}.`);
  }
  return words.join(" ");
}

// Colours

let printing = false;
const PRINTED = { "--ink": "#1f2025", "--quiet": "#63656e", "--edge": "rgba(0, 0, 0, .12)", "--fade": "255, 255, 255" };
const style = (name) => (printing ? PRINTED[name] : getComputedStyle(document.documentElement).getPropertyValue(name).trim());

const packedColour = ([red, green, blue]) => (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;

function packedColours(text) {
  const bytes = bytesOf(text);
  return Uint32Array.from({ length: LEVELS }, (_, i) => packedColour(bytes.subarray(3 * i)));
}
const palettes = { signed: packedColours(data.palettes.signed), plain: packedColours(data.palettes.plain) };
const crimson = packedColour(data.crimson);
const css = (colour) => `rgb(${colour & 255},${(colour >> 8) & 255},${(colour >> 16) & 255})`;

function scaleOf(channel) {
  const { layer } = now;
  let reach = layer.reach, signed = layer.signed;
  if (state.scale === "map") reach = Math.max(Math.abs(now.low[channel]), Math.abs(now.high[channel])) || 1;
  if (state.scale === "all") {
    reach = Math.max(...data.layers.map((one) => one.reach));
    signed = data.layers.some((one) => one.signed);
  }
  return { low: signed ? -reach : 0, high: reach, colours: signed ? palettes.signed : palettes.plain };
}

const place = (value, scale) => Math.min(LEVELS - 1, Math.max(0, Math.floor(((value - scale.low) / (scale.high - scale.low)) * LEVELS)));

function lookup(channel) {
  const scale = scaleOf(channel), table = new Uint32Array(256);
  for (let code = 0; code <= STEPS; code++) {
    table[code] = scale.colours[place(now.low[channel] * (1 - code / STEPS) + now.high[channel] * (code / STEPS), scale)];
  }
  table[NONFINITE] = crimson;
  return table;
}

// Canvases

function context(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 16000 / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const drawing = canvas.getContext("2d");
  drawing.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
  return drawing;
}

function hatch(drawing, x, y, width, height) {
  drawing.save();
  drawing.beginPath();
  drawing.rect(x, y, width, height);
  drawing.clip();
  drawing.beginPath();
  for (let at = -height; at < width; at += 6) {
    drawing.moveTo(x + at, y + height);
    drawing.lineTo(x + at + height, y);
  }
  drawing.lineWidth = 1.2;
  drawing.strokeStyle = "#96969e";
  drawing.stroke();
  drawing.restore();
}

function paint(pixels, width, left, top, channel) {
  const table = lookup(channel), { codes, units, layer } = now;
  let at = channel * units;
  for (let y = 0; y < layer.height; y++) {
    let to = (top + y) * width + left;
    for (let x = 0; x < layer.width; x++) pixels[to++] = table[codes[at++]];
  }
}

function painted(columns, rows, channels) {
  const { width, height } = now.layer;
  const canvas = document.createElement("canvas");
  canvas.width = columns * width;
  canvas.height = rows * height;
  const drawing = canvas.getContext("2d");
  const image = drawing.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  channels.forEach((channel, i) => paint(pixels, canvas.width, (i % columns) * width, Math.floor(i / columns) * height, channel));
  drawing.putImageData(image, 0, 0);
  return canvas;
}

function layOut(count, width, room, ratio) {
  let best = null;
  for (let columns = Math.min(count, Math.ceil((width + GAP) / (170 + GAP))); columns <= count; columns++) {
    const tile = Math.min(170, (width + GAP) / columns - GAP);
    const cell = tile * ratio + LABEL + GAP;
    if (best && tile < 38) break;
    best = { columns, tile, cell, rows: Math.ceil(count / columns), ratio };
    if (best.rows * cell <= room) break;
  }
  return best;
}

function drawMosaic() {
  const { layer, marks } = now;
  const width = id("scroll").clientWidth - 16, room = Math.max(400, window.innerHeight - 340);
  grid = layOut(order.length, width, room, layer.height / layer.width);
  const { columns, rows, tile, cell, ratio } = grid;
  const drawing = context(id("mosaic"), Math.min(width, columns * (tile + GAP) - GAP), rows * cell - GAP);
  const sources = Math.ceil(Math.sqrt(order.length * ratio)) || 1;
  const source = painted(sources, Math.ceil(order.length / sources), order);
  drawing.imageSmoothingEnabled = tile * (window.devicePixelRatio || 1) < layer.width;
  drawing.font = "11px system-ui, sans-serif";
  drawing.textBaseline = "alphabetic";
  const ink = style("--quiet"), line = style("--edge");
  order.forEach((channel, i) => {
    const left = (i % columns) * (tile + GAP), top = Math.floor(i / columns) * cell;
    drawing.drawImage(
      source, (i % sources) * layer.width, Math.floor(i / sources) * layer.height, layer.width, layer.height,
      left, top + LABEL, tile, tile * ratio,
    );
    if (marks[channel] === "dead") hatch(drawing, left, top + LABEL, tile, tile * ratio);
    drawing.strokeStyle = line;
    drawing.strokeRect(left + 0.5, top + LABEL + 0.5, tile - 1, tile * ratio - 1);
    drawing.fillStyle = ink;
    let label = `${now.numberOf(channel)}${marks[channel] ? ` ${marks[channel]}` : ""}`;
    if (marks[channel] && drawing.measureText(label).width > tile) label = `${now.numberOf(channel)} ${marks[channel][0]}`;
    drawing.fillText(label, left, top + LABEL - 5, tile + GAP);
  });
}

function markChosen() {
  const i = order.indexOf(state.channel), { columns, tile, cell, ratio } = grid;
  const box = id("chosen").style, top = Math.floor(i / columns) * cell + LABEL;
  box.left = `${(i % columns) * (tile + GAP) - 2}px`;
  box.top = `${top - 2}px`;
  box.width = `${tile + 4}px`;
  box.height = `${tile * ratio + 4}px`;
  const scroll = id("scroll");
  if (top - LABEL < scroll.scrollTop) scroll.scrollTop = top - LABEL;
  if (top + tile * ratio + 12 > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + tile * ratio + 12 - scroll.clientHeight;
}

function fitted(figure, height, width) {
  const room = figure.clientWidth, tall = Math.max(300, window.innerHeight * 0.62);
  const scale = Math.min(room / width, tall / height);
  return { width: Math.round(width * scale), height: Math.round(height * scale) };
}

function outline(drawing, x, y, width, height, cut) {
  for (const [extra, colour, line] of [[2.5, "#000", 1.5], [1, "#fff", 2]]) {
    drawing.strokeStyle = colour;
    drawing.lineWidth = line;
    const sides = [
      [x - extra, y - extra, x + width + extra, y - extra, cut.top],
      [x - extra, y + height + extra, x + width + extra, y + height + extra, cut.bottom],
      [x - extra, y - extra, x - extra, y + height + extra, cut.left],
      [x + width + extra, y - extra, x + width + extra, y + height + extra, cut.right],
    ];
    for (const [x0, y0, x1, y1, dashed] of sides) {
      drawing.beginPath();
      drawing.setLineDash(dashed ? [5, 5] : []);
      drawing.moveTo(x0, y0);
      drawing.lineTo(x1, y1);
      drawing.stroke();
    }
  }
  drawing.setLineDash([]);
}

function drawMap(y, x) {
  const { layer, marks } = now, canvas = id("map");
  const size = fitted(canvas.parentElement, layer.height, layer.width);
  const drawing = context(canvas, size.width, size.height);
  drawing.imageSmoothingEnabled = size.width * (window.devicePixelRatio || 1) < layer.width;
  drawing.drawImage(mapPicture, 0, 0, size.width, size.height);
  if (marks[state.channel] === "dead") hatch(drawing, 0, 0, size.width, size.height);
  const cell = { width: size.width / layer.width, height: size.height / layer.height };
  const width = Math.max(cell.width, 7), height = Math.max(cell.height, 7);
  const left = Math.min(Math.max((x + 0.5) * cell.width - width / 2, 3), size.width - width - 3);
  const top = Math.min(Math.max((y + 0.5) * cell.height - height / 2, 3), size.height - height - 3);
  outline(drawing, left, top, width, height, {});
}

function drawInput(y, x) {
  const canvas = id("input"), { height, width } = data.input, margin = 5;
  const size = fitted(canvas.parentElement, height, width);
  const drawing = context(canvas, size.width + 2 * margin, size.height + 2 * margin);
  const scale = size.width / width, tall = size.height / height;
  drawing.imageSmoothingEnabled = scale * (window.devicePixelRatio || 1) < 1;
  drawing.translate(margin, margin);
  drawing.drawImage(pictures[state.image], 0, 0, width * scale, height * tall);
  drawing.fillStyle = `rgba(${style("--fade")}, .58)`;
  const box = boxOf(state.channel, y, x);
  drawing.beginPath();
  drawing.rect(0, 0, width * scale, height * tall);
  if (box) drawing.rect(box.x0 * scale, box.y0 * tall, (box.x1 - box.x0) * scale, (box.y1 - box.y0) * tall);
  drawing.fill("evenodd");
  if (box) {
    outline(drawing, box.x0 * scale, box.y0 * tall, (box.x1 - box.x0) * scale, (box.y1 - box.y0) * tall, {
      top: box.Y0 < 0, bottom: box.Y1 > height, left: box.X0 < 0, right: box.X1 > width,
    });
  }
  canvas.setAttribute("aria-label", `Input image ${data.images[state.image].name}. ${seenWords(box)}`);
}

function drawBar() {
  const scale = scaleOf(state.channel), canvas = id("bar-colours");
  const width = id("map").clientWidth || 200;
  const drawing = context(canvas, width, 12);
  for (let i = 0; i < LEVELS; i++) {
    drawing.fillStyle = css(scale.colours[i]);
    drawing.fillRect((i * width) / LEVELS, 0, width / LEVELS + 1, 12);
  }
  id("bar").style.width = id("bar-numbers").style.width = `${width}px`;
  const [low, middle, high] = id("bar-numbers").children;
  low.textContent = short(scale.low, 3);
  middle.textContent = short((scale.low + scale.high) / 2, 3);
  high.textContent = short(scale.high, 3);
  const images = data.images.length > 1 ? `, ${data.images.length} images` : "";
  id("scale-words").textContent = {
    map: "Colour scale: each map has its own; colours cannot be compared between maps.",
    layer: `Colour scale: one for all maps of this layer${images}.`,
    all: `Colour scale: one for all layers${images}.`,
  }[state.scale];
}

function markBar(y, x) {
  const scale = scaleOf(state.channel), value = valueAt(state.channel, y, x);
  id("bar-mark").hidden = Number.isNaN(value);
  if (!Number.isNaN(value)) id("bar-mark").style.left = `${(100 * (value - scale.low)) / (scale.high - scale.low)}%`;
}

// Details of a channel

function drawKernel() {
  const { kernels } = now.layer;
  id("kernel").hidden = !kernels;
  if (!kernels) return;
  const [count, height, width] = kernels.shape, channel = state.channel, units = height * width;
  const room = id("kernel").clientWidth, extra = kernels.inColour ? 1 : 0, total = count + extra;
  let tile = Math.min(76, (room + GAP) / Math.min(total, 4) - GAP);
  const dense = total > 8;
  if (dense) tile = (room + GAP) / 8 - GAP;
  const columns = Math.max(1, Math.min(total, Math.floor((room + GAP) / (tile + GAP)))), ratio = height / width;
  const cell = tile * ratio + LABEL + GAP;
  const drawing = context(id("kernel-picture"), columns * (tile + GAP) - GAP, Math.ceil(total / columns) * cell - GAP);
  drawing.font = "11px system-ui, sans-serif";
  const weight = (i, at) => now.kernels[(channel * count + i) * units + at];
  for (let i = 0; i < total; i++) {
    const left = (i % columns) * (tile + GAP), top = Math.floor(i / columns) * cell + LABEL, input = i - extra;
    for (let at = 0; at < units; at++) {
      const codes = input < 0 ? [0, 1, 2].map((one) => weight(one, at)) : [weight(input, at)];
      if (codes.includes(NONFINITE)) drawing.fillStyle = css(crimson);
      else if (input < 0) drawing.fillStyle = `rgb(${codes.map((code) => Math.round((code / 254) * 255)).join(",")})`;
      else drawing.fillStyle = css(palettes.signed[Math.min(LEVELS - 1, Math.floor((codes[0] / 254) * LEVELS))]);
      const x0 = Math.round(left + ((at % width) * tile) / width), x1 = Math.round(left + (((at % width) + 1) * tile) / width);
      const y0 = Math.round(top + (Math.floor(at / width) * tile * ratio) / height), y1 = Math.round(top + ((Math.floor(at / width) + 1) * tile * ratio) / height);
      drawing.fillRect(x0, y0, x1 - x0, y1 - y0);
    }
    drawing.fillStyle = style("--quiet");
    drawing.fillText(input < 0 ? "in colour" : `${dense ? "" : "input "}${now.kernelInputs[channel * count + input]}`, left, top - 5, tile + GAP);
  }
  const reach = short(now.kernelReach[channel]);
  const words = [
    `${height} x ${width} weights for ${count < kernels.of ? `the ${count} strongest of ${kernels.of} input channels` : many(count, "input channel")}, from -${reach} (orange) through 0 (white) to ${reach} (violet).`,
    ...(dense ? ["The numbers are those of the input channels."] : []),
    ...(kernels.inColour ? ["In colour: the three as red, green and blue, 0 is grey."] : []),
  ];
  id("kernel-words").textContent = words.join(" ");
  id("kernel-picture").setAttribute("aria-label", `Kernel of channel ${now.numberOf(channel)}: ${words.join(" ")}`);
}

function writeNumbers() {
  const { layer } = now, channel = state.channel, sweep = layer.sweep, count = now.count;
  const swept = (name) => {
    const row = sweep ? sweep.names.indexOf(name) : -1;
    return row < 0 ? null : now.statistics[row * count + channel];
  };
  const told = (name, words) => (swept(name) === null ? "" : words(swept(name)));
  const rows = [
    ["greatest", short(now.high[channel]), told("maximum", short)],
    ["mean", short(now.mean[channel]), told("mean", short)],
    ["least", short(now.low[channel]), told("minimum", short)],
    ["standard deviation", "", told("std", short)],
    ["at or below 0", percent(now.silent[channel]), ""],
    ["exactly 0", "", told("zeros", percent)],
    ["samples above 0", "", told("fired", percent)],
    ["not finite", "", told("nonfinite", (value) => (value ? short(value) : ""))],
  ].filter(([, here, there]) => here || there);
  id("numbers").classList.toggle("swept", Boolean(sweep));
  id("samples").textContent = sweep && sweep.names.length ? many(sweep.samples, "sample") : "";
  const cell = (kind, text) => {
    const made = document.createElement(kind);
    made.textContent = text;
    if (kind === "th") made.scope = "row";
    return made;
  };
  id("numbers").querySelector("tbody").replaceChildren(...rows.map(([name, here, there]) => {
    const row = document.createElement("tr");
    row.append(cell("th", name), cell("td", here), cell("td", there));
    return row;
  }));
}

function drawExemplars() {
  const { sweep } = now.layer;
  id("exemplars").hidden = !sweep || !sweep.values;
  if (id("exemplars").hidden) return;
  const { columns: count, patches } = sweep, channel = state.channel;
  const places = Array.from({ length: count }, (_, rank) => {
    const at = channel * count + rank, [sample, y, x] = now.places.subarray(3 * at, 3 * at + 3);
    return { at, sample, y, x, value: now.values[at], box: sample < 0 ? null : boxOf(channel, y, x) };
  }).filter((one) => one.sample >= 0);
  const picture = id("exemplar-picture");
  picture.hidden = !patches || !places.length;
  const words = [`The ${many(places.length, "unit")} with the largest values among ${many(sweep.samples, "sample")}, one a sample${patches ? ", and what they see" : ""}.`];
  const listed = places.map((one) => `${short(one.value)} in sample ${one.sample} at row ${one.y}, column ${one.x}`).join("; ");
  if (!patches) words.push(listed ? `${listed}.` : "");
  else words.push(...patches.remarks);
  if (places.some((one) => one.box && (one.box.Y0 < 0 || one.box.X0 < 0 || one.box.Y1 > data.input.height || one.box.X1 > data.input.width)) && patches) {
    words.push("Hatched: padding.");
  }
  id("exemplar-words").textContent = words.join(" ");
  if (picture.hidden) return;
  picture.setAttribute("aria-label", `Patches of channel ${now.numberOf(channel)}: ${listed}`);
  const room = id("exemplars").clientWidth, gap = 8, line = 15;
  const tile = Math.max(56, Math.min(84, (room + gap) / places.length - gap));
  const columns = Math.max(1, Math.min(places.length, Math.floor((room + gap) / (tile + gap))));
  const cell = tile + 2 * line + gap;
  const drawing = context(picture, columns * (tile + gap) - gap, Math.ceil(places.length / columns) * cell - gap);
  const side = Math.max(...places.map(({ box }) => (box ? Math.max(box.Y1 - box.Y0, box.X1 - box.X0) : 1)));
  places.forEach(({ at, sample, value, box }, i) => {
    const left = (i % columns) * (tile + gap), top = Math.floor(i / columns) * cell + line;
    drawing.font = "12px system-ui, sans-serif";
    drawing.fillStyle = style("--ink");
    drawing.fillText(short(value), left, top - 4, tile);
    drawing.font = "11px system-ui, sans-serif";
    drawing.fillStyle = style("--quiet");
    drawing.fillText(`#${sample}`, left, top + tile + 12, tile);
    if (!box) return;
    const factor = tile / side, height = box.Y1 - box.Y0, width = box.X1 - box.X0;
    const kept = (length) => Math.max(1, Math.floor(length * patches.share + 0.5));
    drawing.imageSmoothingEnabled = factor < 1;
    drawing.drawImage(
      now.sheet, (at % patches.columns) * patches.cell, Math.floor(at / patches.columns) * patches.cell,
      kept(width), kept(height), left, top, width * factor, height * factor,
    );
    const above = Math.max(0, -box.Y0), below = Math.max(0, box.Y1 - data.input.height);
    const before = Math.max(0, -box.X0), after = Math.max(0, box.X1 - data.input.width);
    hatch(drawing, left, top, width * factor, above * factor);
    hatch(drawing, left, top + (height - below) * factor, width * factor, below * factor);
    hatch(drawing, left, top + above * factor, before * factor, (height - above - below) * factor);
    hatch(drawing, left + (width - after) * factor, top + above * factor, after * factor, (height - above - below) * factor);
  });
}

// What is on the page follows from the state

function sort() {
  const all = Array.from({ length: now.count }, (_, c) => c);
  const strength = (c) => Math.max(Math.abs(now.low[c]), Math.abs(now.high[c])) || 0;
  if (state.order === "strength") all.sort((a, b) => strength(b) - strength(a) || a - b);
  if (state.order === "sparsity") all.sort((a, b) => now.silent[b] - now.silent[a] || a - b);
  order = all;
}

function writeLayer() {
  const { layer, marks } = now;
  id("layer-title").textContent = layer.name;
  const kept = layer.channels ? `${layer.channels.length} of ${layer.of} channels` : many(layer.of, "channel");
  const size = layer.field.size.join(" x ");
  id("layer-words").textContent = `${layer.kind}, ${kept} of ${layer.height} x ${layer.width} units; each sees ${size} pixels of the input.`;
  const counts = [
    ["dead", "dead (zero everywhere, hatched)"], ["constant", "constant"], ["not finite", "with values that are not finite (crimson)"],
  ].map(([mark, words]) => [marks.filter((one) => one === mark).length, words]).filter(([count]) => count);
  const ordered = {
    index: "In the order of their numbers.",
    strength: "In order of strength: the largest magnitude first.",
    sparsity: "In order of sparsity: those with the most units at or below zero first.",
  }[state.order];
  id("order-words").textContent = [ordered, ...(counts.length ? [`Marked: ${counts.map(([count, words]) => `${count} ${words}`).join(", ")}.`] : [])].join(" ");
  id("mosaic").setAttribute("aria-label", `Mosaic of ${kept} of ${layer.name}. Arrow keys choose the channel.`);
}

function writeChannel() {
  const { layer, marks } = now, mark = marks[state.channel], number = now.numberOf(state.channel);
  const words = { dead: "dead: zero everywhere for this image", constant: "constant: one value everywhere", "not finite": "holds values that are not finite" }[mark];
  id("channel-title").textContent = `Channel ${number}${words ? `, ${words}` : ""}`;
  id("map-title").textContent = `Feature map, ${layer.height} x ${layer.width}`;
  id("map").setAttribute("aria-label", `Feature map of ${layer.name}, channel ${number}. Arrow keys move the unit, Page Up and Page Down change the channel.`);
  id("input-title").textContent = `Input image ${data.images[state.image].name}`;
  const { answer } = data.images[state.image];
  id("answer").textContent = answer ? `The model's answer: ${answer}` : "";
}

function unbroken(text, i) {
  if (i % 2 === 0) return text;
  const made = document.createElement("span");
  made.className = "unbroken";
  made.textContent = text;
  return made;
}

function showUnit() {
  const { y, x } = preview || state;
  drawMap(y, x);
  drawInput(y, x);
  markBar(y, x);
  const words = sentence(y, x);
  if (id("status").textContent !== words) id("status").replaceChildren(...words.split(/(\d+-\d+)/).map(unbroken));
  writeHash();
}

function showChannel() {
  mapPicture = painted(1, 1, [state.channel]);
  markChosen();
  writeChannel();
  showUnit();
  drawBar();
  drawKernel();
  writeNumbers();
  drawExemplars();
}

function showAll() {
  for (const name of ["layer", "image", "scale", "order"]) id(name).value = `${state[name]}`;
  sort();
  writeLayer();
  drawMosaic();
  showChannel();
}

async function change(wanted) {
  const mine = ++request;
  const started = performance.now();
  asked = { ...asked, ...wanted };
  const next = { ...state, ...asked };
  const here = now && now.index === next.layer && now.image === next.image;
  const found = here ? now : await load(next.layer, next.image);
  if (mine !== request) return;
  const before = now && now.layer, { layer } = found;
  if (before && next.layer !== state.layer && !("y" in asked)) {
    next.y = Math.floor(((state.y + 0.5) * layer.height) / before.height);
    next.x = Math.floor(((state.x + 0.5) * layer.width) / before.width);
  }
  if (next.channel === null) next.channel = Math.max(0, found.marks.indexOf(""));
  next.channel = Math.min(next.channel, found.count - 1);
  if (next.y === null) [next.y, next.x] = strongest(found, next.channel);
  next.y = Math.min(Math.max(next.y, 0), layer.height - 1);
  next.x = Math.min(Math.max(next.x, 0), layer.width - 1);
  const anew = !now || found.layer !== now.layer || found.image !== now.image || next.scale !== state.scale || next.order !== state.order;
  const other = next.channel !== state.channel;
  Object.assign(state, next);
  asked = {};
  now = found;
  preview = null;
  if (anew) showAll();
  else if (other) showChannel();
  else showUnit();
  if (anew) performance.measure("spatialprobe redraw", { start: started });
}

function strongest({ codes, units, low, high, layer }, channel) {
  const below = -low[channel] > high[channel];
  let best = 0, most = -1;
  for (let at = 0; at < units; at++) {
    const code = codes[channel * units + at];
    const strength = code === NONFINITE ? -1 : below ? STEPS - code : code;
    if (strength > most) [best, most] = [at, strength];
  }
  return [Math.floor(best / layer.width), best % layer.width];
}

function moveTo(y, x) {
  change({ y: Math.min(Math.max(y, 0), now.layer.height - 1), x: Math.min(Math.max(x, 0), now.layer.width - 1) });
}

function turn(steps) {
  const at = order.indexOf(state.channel) + steps;
  if (at >= 0 && at < order.length) change({ channel: order[at] });
}

// The address: #layer/channel/y/x, and after a question mark what is not as at first

let waiting = 0;
let known = location.hash; // as it was last read or written: another one is a link that is being followed

function address() {
  const { y, x } = preview || state;
  const more = new URLSearchParams();
  if (state.image) more.set("image", state.image);
  if (state.scale !== "layer") more.set("scale", state.scale);
  if (state.order !== "index") more.set("order", state.order);
  const parts = [encodeURIComponent(now.layer.name), now.numberOf(state.channel), y, x];
  return `#${parts.join("/")}${more.size || `${more}` ? `?${more}` : ""}`;
}

function writeHash() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    try {
      if (location.hash !== known || known === address()) return;
      history.replaceState(null, "", address());
      known = location.hash;
    } catch {
      // A frame without an address of its own has none to keep.
    }
  }, 80);
}

function readHash() {
  const [path, query] = location.hash.slice(1).split("?");
  const more = new URLSearchParams(query || "");
  const wanted = {};
  const [name, ...rest] = path.split("/");
  let decoded = null;
  try {
    decoded = decodeURIComponent(name);
  } catch {
    return wanted;
  }
  const layer = data.layers.findIndex((one) => one.name === decoded);
  if (layer < 0) return wanted;
  const numbers = rest.map((text) => (/^\d{1,9}$/.test(text) ? Number(text) : -1));
  const { channels } = data.layers[layer];
  wanted.layer = layer;
  const channel = channels ? channels.indexOf(numbers[0]) : numbers[0] ?? -1;
  wanted.channel = channel < 0 ? null : channel;
  [wanted.y, wanted.x] = numbers[1] >= 0 && numbers[2] >= 0 ? [numbers[1], numbers[2]] : [null, null];
  const image = Number(more.get("image"));
  wanted.image = Number.isInteger(image) && image >= 0 && image < data.images.length ? image : 0;
  wanted.scale = ["map", "layer", "all"].includes(more.get("scale")) ? more.get("scale") : "layer";
  wanted.order = ["index", "strength", "sparsity"].includes(more.get("order")) ? more.get("order") : "index";
  return wanted;
}

// Mouse, touch, keys

function unitUnder(event) {
  const box = id("map").getBoundingClientRect();
  const at = (position, length, count) => Math.min(Math.max(Math.floor((position / length) * count), 0), count - 1);
  return { y: at(event.clientY - box.top, box.height, now.layer.height), x: at(event.clientX - box.left, box.width, now.layer.width) };
}

function listen() {
  const map = id("map"), mosaic = id("mosaic");
  let frame = 0;
  const look = (event) => {
    const unit = unitUnder(event);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      preview = unit;
      showUnit();
    });
  };
  map.addEventListener("pointermove", look);
  map.addEventListener("pointerdown", (event) => {
    cancelAnimationFrame(frame);
    change(unitUnder(event));
  });
  map.addEventListener("pointerleave", (event) => {
    cancelAnimationFrame(frame);
    if (event.pointerType !== "mouse" && preview) return change({ ...preview });
    preview = null;
    showUnit();
  });
  const common = (event) => {
    const steps = { PageUp: -1, PageDown: 1 }[event.key];
    if (!steps) return false;
    turn(steps);
    return true;
  };
  map.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { y, x } = preview || state, { height, width } = now.layer;
    const [dy, dx] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [-height, -width], End: [height, width] }[event.key] || [0, 0];
    if (dy || dx) moveTo(y + dy, x + dx);
    else if (!common(event)) return;
    event.preventDefault();
  });
  mosaic.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowUp: -grid.columns, ArrowDown: grid.columns, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (steps) turn(steps);
    else if (event.key === "Home") change({ channel: order[0] });
    else if (event.key === "End") change({ channel: order[order.length - 1] });
    else if (!common(event)) return;
    event.preventDefault();
  });
  mosaic.addEventListener("click", (event) => {
    const column = Math.floor(event.offsetX / (grid.tile + GAP)), row = Math.floor(event.offsetY / grid.cell);
    const channel = order[row * grid.columns + column];
    if (column < grid.columns && channel !== undefined) change({ channel });
  });
  for (const name of ["layer", "image"]) {
    id(name).addEventListener("change", (event) => change({ [name]: Number(event.target.value), ...(name === "layer" ? { channel: null } : {}) }));
  }
  for (const name of ["scale", "order"]) id(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
  addEventListener("hashchange", () => {
    known = location.hash;
    change(readHash());
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => now && showAll());
  for (const event of ["beforeprint", "afterprint"]) {
    addEventListener(event, () => {
      printing = event === "beforeprint";
      showAll();
    });
  }
  let width = 0;
  new ResizeObserver(() => {
    if (!now || width === document.documentElement.clientWidth) return;
    width = document.documentElement.clientWidth;
    showAll();
  }).observe(document.documentElement);
}

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

// Unpacks the other layers while nothing else is to be done, so that they are there when they are chosen.
async function prepare() {
  for (let layer = 0; layer < data.layers.length; layer++) {
    await new Promise((done) => (window.requestIdleCallback || setTimeout)(done));
    await load(layer, state.image);
  }
}

async function start() {
  id("layer").replaceChildren(...data.layers.map((layer, i) => option(i, layer.name)));
  id("image").replaceChildren(...data.images.map((image, i) => option(i, image.name)));
  id("plain").hidden = true;
  id("app").hidden = false;
  await change({ channel: null, y: null, x: null, ...readHash() });
  listen();
  document.documentElement.dataset.ready = "yes";
  prepare();
}

start().catch((error) => {
  id("app").hidden = true;
  id("plain").hidden = false;
  throw error;
});
})();
