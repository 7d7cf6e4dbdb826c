/** Runs `static/sw.js` (argument 1) with caches and a network of its own, and prints what it did as JSON. */

import { readFile } from "node:fs/promises";

const HASHES = ["0123456789ab", "ba9876543210"];
const listeners = {};
const stores = new Map([["turnwire https://x.example/other/ static/000000000000-page/chat/page.js", new Map()], ["theirs", new Map()]]);
const requests = [];
let online = true;
let cacheControl = "public, immutable";
/** The hash of the version that answers. */
let served = "";

const urlOf = (request) => (typeof request === "string" ? request : request.url);
class Cache {
  constructor(entries) { this.entries = entries; }
  async addAll(all) { for (const one of all) await this.put(one, await fetch(one)); }
  async put(request, response) { this.entries.set(urlOf(request), response); }
}
globalThis.fetch = async (request) => {
  if (!online) throw new TypeError("offline");
  requests.push(urlOf(request));
  const isPage = urlOf(request) === "https://x.example/chat/";
  return new Response(`content of ${urlOf(request)}${isPage ? ` src="static/${served}-page/chat/page.js"` : ""}`, { headers: { "cache-control": cacheControl } });
};
globalThis.caches = {
  open: async (name) => new Cache(stores.get(name) ?? stores.set(name, new Map()).get(name)),
  keys: async () => [...stores.keys()],
  delete: async (name) => stores.delete(name),
  match: async (request, { cacheName }) => stores.get(cacheName)?.get(urlOf(request))?.clone(),
};

const source = await readFile(process.argv[2], "utf-8");

/** Starts the worker of a deploy. */
async function deploy(hash, hostname = "x.example", answering = hash) {
  served = answering;
  globalThis.self = globalThis;
  Object.assign(self, {
    location: { hostname }, registration: { scope: "https://x.example/chat/" }, clients: { claim: async () => {} }, skipWaiting: async () => {},
    addEventListener: (type, listener) => (listeners[type] = listener),
  });
  new Function(source.replaceAll('"static/', `"static/${hash}-page/`))();
  for (const type of ["install", "activate"]) {
    let done;
    listeners[type]({ waitUntil: (promise) => (done = promise) });
    await done;
  }
}

/** Returns how the worker answers: from its cache, from the network, or "-": it leaves the request to the browser. */
async function ask(path, { method = "GET", mode = "no-cors" } = {}) {
  let answer = null;
  const before = requests.length;
  listeners.fetch({ request: { method, mode, url: `https://x.example${path}` }, respondWith: (promise) => (answer = promise) });
  if (!answer) return "-";
  try {
    const text = await (await answer).text();
    return `${requests.length > before ? "network" : "cache"}: ${text.replace("content of https://x.example", "").replace(/ src=.*/, "")}`;
  } catch (error) {
    return error.message;
  }
}

const navigate = { mode: "navigate" };
const lazy = (hash) => `/chat/static/${hash}-page/devtools/wire_view.js`;
const seen = {};
await deploy(HASHES[0]);
seen.kept = [...stores.get(`turnwire https://x.example/chat/ static/${HASHES[0]}-page/chat/page.js`).keys()];
seen.shell = await ask("/chat/#c_1", navigate);
seen.file = await ask(`/chat/static/${HASHES[0]}-page/turnwire.css`);
seen.lazy = [await ask(lazy(HASHES[0])), await ask(lazy(HASHES[0]))];
seen.left = [];
for (const path of ["/chat/v1", "/chat/v1/models", "/chat/ws", "/chat/openapi.json", "/chat/static/turnwire.js", "/other/static/0123456789ab/a.js"]) seen.left.push(await ask(path));
for (const path of ["/chat/docs", "/chat/?modules", "/other/"]) seen.left.push(await ask(path, navigate));
seen.left.push(await ask("/chat/", { method: "POST", mode: "navigate" }));
online = false;
seen.offline = [await ask("/chat/", navigate), await ask(lazy(HASHES[0])), await ask(`/chat/static/${HASHES[0]}-page/new.js`)];
online = true;
seen.others = [];
for (const [answering, control] of [[HASHES[0], "public, immutable"], [HASHES[1], "no-store"]]) {
  cacheControl = control;
  seen.others.push(await deploy(HASHES[1], "x.example", answering).catch((error) => error.message));
}
cacheControl = "public, immutable";
await deploy(HASHES[1]);
seen.caches = [...stores.keys()];
cacheControl = "no-store";
seen.substitute = [await ask(lazy(HASHES[0])), await ask(lazy(HASHES[0]))];
cacheControl = "public, immutable";
await deploy(HASHES[1], "localhost");
seen.local = [await ask("/chat/", navigate)];
online = false;
seen.local.push(await ask("/chat/", navigate));
console.log(JSON.stringify(seen));
