/** Registers the service worker (sw.js), which keeps the page's files. */

/** How long a page of the cache may take to be live before the network is asked whether it still has this page. */
const LIVE_WITHIN_MS = 2_000;

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
  setTimeout(() => void leaveKeptPage(serviceWorker), LIVE_WITHIN_MS);
}

/**
 * Leaves a page of the cache that the network would no longer show: a proxy that signs users in sends those whose session
 * has ended to its own page.
 */
async function leaveKeptPage(serviceWorker) {
  if (hasBeenLive) return;
  try {
    const { type, status } = await fetch(location.pathname, { redirect: "manual", cache: "no-store", headers: { accept: "text/html" } });
    if (type !== "opaqueredirect" && status !== 401 && status !== 403) return;
    await (await serviceWorker.getRegistration())?.unregister();
    location.reload();
  } catch {
    // There is no network: the page stays.
  }
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
