/**
 * What happens to the window: links, printing, another color scheme, another width.
 */

/** @import { App } from "./app.mjs" */
import { readAddress } from "./address.mjs";
import { parseAddress } from "./state.mjs";
import { change, showAll } from "./view.mjs";

/** @param {App} app */
export function listenToWindow(app) {
  addEventListener("hashchange", () => change(app, parseAddress(readAddress(app), app.payload)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showAll(app));
  for (const name of ["beforeprint", "afterprint"]) {
    addEventListener(name, () => {
      app.printing = name === "beforeprint";
      showAll(app);
    });
  }
  let width = 0;
  new ResizeObserver(() => {
    if (width === document.documentElement.clientWidth) return;
    width = document.documentElement.clientWidth;
    showAll(app);
  }).observe(document.documentElement);
}
