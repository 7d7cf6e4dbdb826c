/** Registers the service worker (sw.js), which keeps the page's files. */

let hasBeenLive = false;

/**
 * Follows the workers. A page that was opened from the cache may be too old for the gateway to connect. When a new worker
 * takes over, such a page is loaded again.
 */
export function followServiceWorker() {
  const { serviceWorker } = navigator;
  if (!serviceWorker?.controller) return;
  serviceWorker.addEventListener("controllerchange", () => {
    if (!hasBeenLive) location.reload();
  });
}

/** Registers the worker, once the page is live: it loads files that the page itself may not need. */
export async function registerServiceWorker() {
  if (hasBeenLive) return;
  hasBeenLive = true;
  if (!isSecureContext || !navigator.serviceWorker || new URLSearchParams(location.search).has("modules")) return;
  try {
    await navigator.serviceWorker.register(workerUrl(new URL("sw.js", document.baseURI).href));
  } catch (error) {
    console.info("The page isn't kept for times without a network:", error.message);
  }
}

function workerUrl(url) {
  return window.trustedTypes ? trustedTypes.createPolicy("turnwire-page", { createScriptURL: () => url }).createScriptURL(url) : url;
}
