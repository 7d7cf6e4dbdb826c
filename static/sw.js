/**
 * The service worker. It keeps the page and its hashed files, so that the page opens at once, and without a network. It
 * keeps nothing of a user, and never handles requests to the API or the documents.
 *
 * The gateway serves it at `/sw.js` with the hash in the addresses, so each deploy has another worker: it loads the new
 * files, deletes the old ones, and takes over.
 */

const FILES = [
  "static/chat/page.js",
  "static/turnwire.css",
  "static/favicon.svg",
  "static/markdown/markdown_view.js",
  "static/vendor/marked.js",
  "static/vendor/purify.js",
  // What sends a prompt that was kept without a network.
  "static/chat/resend.js",
  "static/chat/message_tree.js",
  "static/chat/outbox.js",
];
const HASHED = /^static\/[0-9a-f]{12}(-page)?\//;
/** On the machine of a developer, the page's files change between two loads. */
const IS_LOCAL = ["localhost", "127.0.0.1", "[::1]"].includes(self.location.hostname);

const scope = self.registration.scope;
/** Several gateways may share an origin under different paths. */
const prefix = `turnwire ${scope} `;
const cacheName = prefix + FILES[0];

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  url.hash = "";
  if (request.method !== "GET" || !url.href.startsWith(scope)) return;
  const path = url.href.slice(scope.length);
  if (request.mode === "navigate" && path === "") event.respondWith(IS_LOCAL ? fetchShell(request) : keptShell(request));
  else if (HASHED.test(path)) event.respondWith(keptFile(request));
});

/**
 * Keeps the page and its first files. During a deploy, an instance of another version may answer: then this fails, and the
 * browser tries again later.
 */
async function install() {
  const cache = await caches.open(cacheName);
  const shell = await load(new Request(scope, { cache: "reload", headers: { accept: "text/html" } }));
  if (!(await shell.clone().text()).includes(FILES[0])) throw new Error("The page is of another version");
  await cache.put(scope, shell);
  for (const [file, response] of await Promise.all(FILES.map(async (file) => [file, await load(scope + file)]))) {
    if (!isOwn(response)) throw new Error(`${file} is of another version`);
    await cache.put(scope + file, response);
  }
  await self.skipWaiting();
}

async function load(request) {
  const response = await fetch(request);
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response;
}

/** Returns whether a file is the one of its address, and not the substitute from another version. */
function isOwn(response) {
  return response.ok && Boolean(response.headers.get("cache-control")?.includes("immutable"));
}

async function activate() {
  const names = (await caches.keys()).filter((name) => name.startsWith(prefix) && name !== cacheName);
  await Promise.all(names.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function keptShell(request) {
  return (await caches.match(scope, { cacheName, ignoreVary: true })) ?? fetch(request);
}

async function fetchShell(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await caches.match(scope, { cacheName, ignoreVary: true });
    if (!kept) throw error;
    return kept;
  }
}

/**
 * Returns a file from the cache, or loads it. It is kept if it never changes: an old page gets the current file instead of
 * its own, and that one isn't kept.
 */
async function keptFile(request) {
  const kept = await caches.match(request, { cacheName, ignoreVary: true });
  if (kept) return kept;
  const response = await fetch(request);
  if (isOwn(response)) {
    const cache = await caches.open(cacheName);
    await cache.put(request, response.clone()).catch(() => {}); // the disk is full
  }
  return response;
}
