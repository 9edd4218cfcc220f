/**
 * The address bar follows the state, and gives way to a link that is being followed.
 */

/** @import { App } from "./app.mjs" */
import { currentUnit } from "./app.mjs";
import { formatAddress } from "./state.mjs";

const PAUSE = 80; // milliseconds without a change before the address is written

/** @param {App} app @returns {string} the address, which counts as known from now on */
export function readAddress(app) {
  app.address.known = location.hash;
  return location.hash;
}

/** @param {App} app */
export function writeAddress(app) {
  const written = app.address;
  clearTimeout(written.timer);
  written.timer = setTimeout(() => {
    const address = formatAddress(app.state, currentUnit(app), app.shown, app.payload);
    if (location.hash !== written.known || written.known === address) return;
    try {
      history.replaceState(null, "", address);
      written.known = location.hash;
    } catch {
      // A frame without an address of its own has none to keep.
    }
  }, PAUSE);
}
