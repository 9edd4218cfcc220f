/**
 * A sample of the data set as a whole, with what one unit saw of it.
 */

/** @import { App } from "./app.mjs" */
/** @import { Place } from "./exemplars.mjs" */
import { canvasOf, drawField, element, resizeCanvas } from "./drawing.mjs";
import { sampleImage, sampleLabel } from "./exemplars.mjs";
import { fitInto } from "./layout.mjs";
import { numberOf } from "./values.mjs";
import { MARGIN } from "./views.mjs";
import { describeBox, describeUnitPlace, formatNumber } from "./words.mjs";

/** @param {App} app @param {Place} place Show the sample in a dialog, which Escape, its button and a click beside it close. */
export async function showWhole(app, place) {
  const { input } = app.payload;
  const image = sampleImage(app, place);
  await image?.decode();
  const dialog = /** @type {HTMLDialogElement} */ (element("whole"));
  const label = sampleLabel(app, place);
  const unit = `unit ${describeUnitPlace(place, app.shown.layer.axes)} of ${app.shown.layer.name}, channel ${numberOf(app.shown, place.channel)}`;
  const sample = [`Sample ${place.sample}`, label].filter(Boolean).join(", ");
  const words = `${sample}: ${unit} reached ${formatNumber(place.value)}. ${describeBox(place.box, input)}`;
  element("whole-words").textContent = image ? words : `${words} The page does not hold the whole image.`;
  const canvas = canvasOf("whole-picture");
  canvas.hidden = !image;
  if (!dialog.open) dialog.showModal();
  if (!image) return;
  const size = fitInto(input, Math.min(480, window.innerWidth * 0.8), window.innerHeight * 0.6);
  const drawing = resizeCanvas(canvas, size.width + 2 * MARGIN, size.height + 2 * MARGIN);
  drawing.translate(MARGIN, MARGIN);
  drawing.imageSmoothingEnabled = image.naturalWidth > 64;
  drawing.drawImage(image, 0, 0, size.width, size.height);
  drawField(app, drawing, place.box, size, false);
  canvas.setAttribute("aria-label", words);
}
