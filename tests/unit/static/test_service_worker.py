"""The service worker, run in Node with caches and a network of the test, and the manifest of the installed page."""

from __future__ import annotations

import json
import posixpath
import re
import struct
import subprocess
from pathlib import Path

from gateway.http.page_bundle import joined
from tests.programs import program

STATIC = Path(__file__).parents[3] / "static"
HARNESS = Path(__file__).with_name("service_worker.mjs")
OLD, NEW = "/chat/static/0123456789ab-page", "/chat/static/ba9876543210-page"


def test_the_service_worker_keeps_the_page_and_nothing_of_a_user() -> None:
    """It answers for the page and its hashed files, and leaves everything else to the browser. A deploy replaces what it
    has kept. On a developer's machine it prefers the network."""
    command = [str(program("node")), str(HARNESS), str(STATIC / "sw.js")]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert seen["kept"][0] == "https://x.example/chat/"
    assert all(url.startswith(f"https://x.example{OLD}/") for url in seen["kept"][1:])
    assert seen["shell"] == "cache: /chat/"
    assert seen["file"] == f"cache: {OLD}/turnwire.css"
    lazy = f"{OLD}/devtools/wire_view.js"
    assert seen["lazy"] == [f"network: {lazy}", f"cache: {lazy}"]
    assert set(seen["left"]) == {"-"}
    assert seen["offline"] == ["cache: /chat/", f"cache: {lazy}", "offline"]
    page = "static/ba9876543210-page/chat/page.js is of another version"
    assert seen["others"] == ["The page is of another version", page], "what another instance answers isn't kept"
    assert seen["caches"] == [
        "turnwire https://x.example/other/ static/000000000000-page/chat/page.js",
        "theirs",
        "turnwire https://x.example/chat/ static/ba9876543210-page/chat/page.js",
    ]
    assert seen["substitute"] == [f"network: {lazy}"] * 2, "a substitute for a file of an old page isn't kept"
    assert seen["local"] == ["network: /chat/", "cache: /chat/"]


def test_kept_prompts_are_shown_without_a_network() -> None:
    """The worker keeps the script that shows and sends them, and every module that a kept script imports."""
    kept = set(re.findall(r'"static/(\S+\.js)"', (STATIC / "sw.js").read_text("utf-8")))
    assert "chat/resend.js" in kept
    files = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in STATIC.rglob("*.js")}
    served = files | joined(files)
    for script in kept:
        imported = re.findall(r'^(?:import|export) [^;]+ from "(\.[^"]+)";$', served[script].decode(), re.MULTILINE)
        assert {posixpath.normpath(posixpath.join(posixpath.dirname(script), name)) for name in imported} <= kept


LEAVE = """
const { followServiceWorker } = await import(process.argv[1]);
const done = [];
const registration = { unregister: async () => done.push("unregistered") };
const serviceWorker = { controller: {}, addEventListener() {}, getRegistration: async () => registration };
Object.defineProperty(globalThis, "navigator", { value: { serviceWorker } });
globalThis.location = { pathname: "/chat/", reload: () => done.push("reloaded") };
let later;
globalThis.setTimeout = (run) => (later = run);
const seen = {};
const redirect = { type: "opaqueredirect", status: 0 };
const answers = { redirect, refused: { status: 401 }, same: { status: 200 }, down: { status: 502 }, none: null };
for (const [name, answer] of Object.entries(answers)) {
  globalThis.fetch = async (url, { redirect }) => {
    if (url !== "/chat/" || redirect !== "manual" || !answer) throw new TypeError("no network");
    return answer;
  };
  followServiceWorker();
  later();
  await new Promise(setImmediate);
  seen[name] = done.splice(0);
}
console.log(JSON.stringify(seen));
"""


def test_a_page_of_the_cache_gives_way_to_the_sign_in_of_a_proxy() -> None:
    """A page of the cache that doesn't get live asks the network for the page. If the proxy sends the user elsewhere or
    refuses, the page is loaded from the network. Without a network, or if the gateway is down, it stays."""
    module = (STATIC / "chat" / "service_worker.js").as_uri()
    command = [str(program("node")), "--input-type=module", "-e", LEAVE, module]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    left = ["unregistered", "reloaded"]
    assert seen == {"redirect": left, "refused": left, "same": [], "down": [], "none": []}


def test_the_manifest_names_icons_of_the_right_size() -> None:
    """Its addresses are relative, so that a path prefix works."""
    manifest = json.loads((STATIC / "app.webmanifest").read_text("utf-8"))
    assert (manifest["start_url"], manifest["scope"], manifest["display"]) == ("./", "./", "standalone")
    sizes = {}
    for icon in manifest["icons"]:
        content = (STATIC.parent / icon["src"]).read_bytes()
        if icon["type"] == "image/png":
            assert content.startswith(b"\x89PNG")
            sizes[icon["src"]] = struct.unpack(">II", content[16:24])
            assert icon["sizes"] == "{}x{}".format(*sizes[icon["src"]])
    assert {size for size, _ in sizes.values()} == {192, 512}
    assert any(icon.get("purpose") == "maskable" for icon in manifest["icons"])
