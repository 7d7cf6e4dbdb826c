/**
 * The URLs of the page's workers. Under Trusted Types they need a policy, and its name, `turnwire`, may be used only once:
 * whoever comes first, this or the client library, keeps the policy under a symbol for the other.
 */

const POLICY = Symbol.for("turnwire.policy");
const WORKER = /\/(?:client\/socket|markdown\/highlight)_worker\.js$/;

/** Returns the URL of a worker's script in the form that the browser accepts. @param {string} url */
export function workerScriptUrl(url) {
  if (!globalThis.trustedTypes) return url;
  globalThis[POLICY] ??= trustedTypes.createPolicy("turnwire", { createScriptURL: checkWorkerUrl });
  return globalThis[POLICY].createScriptURL(url);
}

function checkWorkerUrl(url) {
  if (!WORKER.test(new URL(url).pathname)) throw new TypeError(`This isn't the script of a worker: ${url}`);
  return url;
}
