"""The npm package of the JavaScript client: packed, installed without a network, and used in Node, with types and in a
bundled page."""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from gateway import __version__
from gateway.protocol.requests import PROTOCOL
from tests.certificates import make_certificate
from tests.credentials import SECRET, token
from tests.gateway_process import gateway_process
from tests.packed_js import PACKAGES, ROOT, copy_sources, install, link, nodes, pack, run
from tests.page_stage import browser_context
from tests.programs import installed, program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="session")]

GUIDE_PACKAGES = ROOT / "tests" / "guides" / "node_modules"
COMPILER = ROOT / "tests" / "client_library" / "node_modules" / ".bin" / "tsc"
TEXT = "One two three."
REFUSED = ["connection_closed", "Sign-in is missing or has expired.", True]


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed package."""
    return pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def project(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which nothing but the package is installed. Each test adds files of its own."""
    folder = tmp_path_factory.mktemp("project")
    install(tarball, folder)
    return folder


async def test_the_package_has_what_it_needs_and_nothing_else(tarball: Path, tmp_path: Path) -> None:
    """The tarball has every file of the library, a README and the license. Its version and its protocol are the gateway's,
    it depends on nothing, each of its exports exists, and npm would publish it without a warning about it."""
    with tarfile.open(tarball) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        archive.extractall(tmp_path / "content", filter="data")
    library = {f"client/{file.name}" for file in (ROOT / "static" / "client").glob("*.js")}
    assert {f"dist/{name}" for name in {"turnwire.js", "turnwire.d.ts", *library}} == {
        name for name in names if name.startswith("dist/")
    }
    assert {"README.md", "LICENSE", "package.json"} <= names
    assert not [name for name in names if name.endswith((".tgz", ".ts.map")) or "test" in name or name == "prepack.js"]
    content = tmp_path / "content" / "package"
    package: dict[str, Any] = json.loads((content / "package.json").read_text(encoding="utf-8"))
    assert (package["name"], package["version"], package["sideEffects"]) == ("turnwire", __version__, False)
    assert f'PROTOCOL = "{PROTOCOL}"' in (content / "dist" / "client" / "codecs.js").read_text(encoding="utf-8")
    assert not package.get("dependencies")
    assert set(package["peerDependencies"]) == set(package["peerDependenciesMeta"])
    exported = package["exports"].values()
    targets = [target for one in exported for target in ([one] if isinstance(one, str) else one.values())]
    assert [target for target in targets if not (content / target).is_file()] == []

    sources = copy_sources(tmp_path)
    options = ("publish", "--dry-run", "--offline", "--tag", "latest")
    process = await asyncio.create_subprocess_exec(
        *(program("npm"), *options), cwd=sources, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await asyncio.wait_for(process.communicate(), 200))[0].decode()
    assert process.returncode == 0, output
    warnings = [line for line in output.splitlines() if line.startswith(("npm warn", "npm error"))]
    assert [line for line in warnings if "logged in" not in line] == []


async def test_programs_use_the_installed_package(project: Path, tmp_path: Path) -> None:
    """In an empty project, each installed version of Node takes turns over the runtime's WebSocket, that of `ws` and HTTP, also
    with a credential. Bad input is an error with a code and a sentence. A listener's error is logged, and nothing else is."""
    program_folder = project / "with ws"
    program_folder.mkdir()
    link(program_folder, PACKAGES / "node_modules" / "ws")
    (program_folder / "program.js").write_text((PACKAGES / "program.js").read_text(encoding="utf-8"), encoding="utf-8")
    certificate = make_certificate(tmp_path)
    environments: tuple[dict[str, str], ...] = (
        {},
        {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET},
        {"TURNWIRE_CERTFILE": str(certificate.certfile), "TURNWIRE_KEYFILE": str(certificate.keyfile)},
    )
    folders = [tmp_path / name for name in ("open", "guarded", "untrusted")]
    for folder in folders:
        folder.mkdir()
    async with (
        gateway_process(folders[0], environments[0]) as plain,
        gateway_process(folders[1], environments[1]) as guarded,
        gateway_process(folders[2], environments[2]) as untrusted,
    ):
        arguments = (plain.ws_url, guarded.ws_url, token(), untrusted.ws_url)
        for node in nodes():
            process = await asyncio.create_subprocess_exec(
                *(node, "program.js", *arguments),
                cwd=program_folder,
                env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            output, logged = (stream.decode() for stream in await asyncio.wait_for(process.communicate(), 200))
            assert process.returncode == 0, logged
            check_program(json.loads(output), logged)


def check_program(found: dict[str, Any], logged: str) -> None:
    """Check the line that tests/js_package/program.js has written, and its log."""
    default = "socket" if found["hasWebSocket"] else "http"
    assert found["hasWebSocket"] == (int(found["node"]) >= 22)
    assert found["answers"] == {
        "default": [TEXT, TEXT, default],
        "ws": [TEXT, TEXT, "socket"],
        "ws, msgpack": [TEXT, TEXT, "socket"],
        "http": [TEXT, TEXT, "http"],
        "ws, token": [TEXT, "socket"],
        "default, token": [TEXT, default],
        "http, token": [TEXT, "http"],
    }
    errors = found["errors"]
    codes = {name: code for name, (code, _, _) in errors.items()}
    assert codes == {
        **{"no url": "invalid_url", "no scheme": "invalid_url", "no WebSocket": "unsupported"},
        **{"certificate": "untrusted_certificate", "certificate, http": "untrusted_certificate"},
        **dict.fromkeys(("wrong token", "wrong token, socket", "signed out"), "connection_closed"),
    }
    assert errors["wrong token"] == errors["wrong token, socket"] == REFUSED
    assert all(message.endswith(".") and is_typed for _, message, is_typed in errors.values()), errors
    assert "NODE_EXTRA_CA_CERTS" in errors["certificate"][1]
    assert "Unhandled" not in logged, logged
    assert "ReferenceError" not in logged, logged
    assert logged.count("A listener of “ready” failed: a listener's own.") == 4


async def test_typescript_accepts_a_strict_program(project: Path) -> None:
    """The package's types are found and correct for bundlers and for Node, also without `skipLibCheck`."""
    (project / "app.ts").write_text((PACKAGES / "app.ts").read_text(encoding="utf-8"), encoding="utf-8")
    for resolution, module in (("bundler", "esnext"), ("nodenext", "nodenext")):
        options = ("--strict", "--noEmit", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess")
        libraries = ("--lib", "es2023,dom,dom.asynciterable", "--types", "")
        kinds = ("--target", "es2023", "--moduleResolution", resolution, "--module", module)
        run(installed(COMPILER, "TypeScript"), *options, *libraries, *kinds, "app.ts", folder=project)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder, and yield the origin."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.browser
async def test_a_bundled_page_takes_turns(project: Path, tmp_path: Path, browser: Browser) -> None:
    """Vite builds an app that imports the package. In Chromium, it takes a turn over a WebSocket and over HTTP, for which it
    loads a second script, and it can stop reading."""
    vite = installed(GUIDE_PACKAGES / "vite" / "bin" / "vite.js", "the packages of tests/guides")
    for name in ("index.html", "main.js"):
        (project / name).write_text((PACKAGES / name).read_text(encoding="utf-8"), encoding="utf-8")
    output = run(program("node"), vite, "build", "--target", "esnext", folder=project)
    assert "warn" not in output.lower(), output
    assert any("http_socket" in file.name for file in (project / "dist" / "assets").iterdir())
    (tmp_path / "data").mkdir()
    with served(project / "dist") as origin:
        environment = {"TURNWIRE_ALLOWED_ORIGINS": origin}
        async with gateway_process(tmp_path / "data", environment) as gateway, browser_context(browser) as context:
            problems: list[str] = []
            page = await context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda message: problems.append(message.text))
            requested: list[str] = []
            page.on("request", lambda request: requested.append(request.url))
            for query, transport in (("", "socket"), ("&pause", "socket"), ("&transport=http", "http")):
                requested.clear()
                await page.goto(f"{origin}/?url={gateway.ws_url}{query}")
                await expect(page.locator("#answer")).to_have_text(f"{TEXT} {transport}")
                assert any("http_socket" in url for url in requested) == (transport == "http")
            assert problems == []
