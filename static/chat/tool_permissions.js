/** Which tools the user always allows. */

import { getPref, setPref } from "../shared/local_prefs.js";
import { TOOLS } from "./demo_tools.js";

/** Returns whether this page has a tool. Only such a tool can be allowed for good. */
export function isKnownTool(name) {
  return TOOLS.some((tool) => tool.name === name);
}

export function isAlwaysAllowed(name) {
  return isKnownTool(name) && getPref(key(name)) === true;
}

export function allowAlways(name) {
  setPref(key(name), true);
}

/** Asks again before each tool. */
export function forgetPermissions() {
  for (const { name } of TOOLS) setPref(key(name), null);
}

function key(name) {
  return `tool-always ${name}`;
}
