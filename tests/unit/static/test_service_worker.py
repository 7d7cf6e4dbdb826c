"""The service worker, run in Node with caches and a network of the test, and the manifest of the installed page."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

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
