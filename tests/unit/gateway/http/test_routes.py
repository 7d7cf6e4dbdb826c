"""Tests of plain HTTP: the list of addresses, the page and its files, the security headers, and the `Host` check."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from gateway.http.operations import OPERATIONS
from gateway.http.page import static_dir
from tests.in_loop_server import InLoopServer, serving


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving() as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path_prefix", ["", "/chat"])
async def test_every_address_is_listed(path_prefix: str) -> None:
    """`GET /v1`, and `GET /` of a client that prefers JSON, list every address of the API and of its documents. The
    answer to an unknown path says where the list is."""
    async with (
        serving(path_prefix=path_prefix) as server,
        httpx2.AsyncClient(base_url=server.url, trust_env=False) as http,
    ):
        about = (await http.get(f"{path_prefix}/v1")).json()
        assert {(one["method"], one["path"].removeprefix(path_prefix)) for one in about["addresses"]} == {
            (operation.method, operation.path) for operation in OPERATIONS
        }
        for address in about["addresses"]:
            path = re.sub(r"\{\w+\}", "1", address["path"])
            assert address["method"] in (await http.options(path)).headers["allow"]
            assert address["summary"]
        for document in about["documents"]:
            assert (await http.get(document)).status_code == 200
        redirect = await http.get(f"{path_prefix}/redoc")
        assert str(redirect.next_request and redirect.next_request.url) == f"{server.url}{about['documents'][0]}"
        socket = await http.get(about["socket"])
        assert (socket.status_code, socket.headers["upgrade"]) == (426, "websocket")
        assert "WebSocket" in socket.json()["error"]["message"]
        as_json = await http.get(f"{path_prefix}/", headers={"accept": "application/json, text/plain, */*"})
        assert (as_json.status_code, as_json.json()) == (200, about)
        unknown = await http.get(f"{path_prefix}/v1/chat")
        assert (unknown.status_code, unknown.json()["error"]["message"]) == (
            404,
            "Path not found. GET /v1 lists the addresses.",
        )


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "image/png", ""],
)
async def test_browsers_get_the_page(http: httpx2.AsyncClient, accept: str | None) -> None:
    """A client that doesn't prefer JSON gets the page. `Vary` lets a cache tell the page from the JSON."""
    page = await http.get("/", headers={} if accept is None else {"accept": accept})
    assert page.status_code == 200
    assert {"Accept", "Accept-Encoding"} <= set(page.headers["vary"].split(", "))
    assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
async def test_the_page_can_only_be_read(http: httpx2.AsyncClient, accept: str) -> None:
    """Methods that change something are refused, whatever the client accepts. Both answers vary with `Accept`."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = await http.request(method, "/", headers={"accept": accept})
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    answer = await http.get("/", headers={"accept": accept})
    assert (answer.status_code, "Accept" in answer.headers["vary"]) == (200, True)


async def test_the_page_and_its_files_are_served(http: httpx2.AsyncClient) -> None:
    """`/` is the page and `/static` has its files. No file outside the folder is served."""
    page = await http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    hashed = re.search(r"static/([0-9a-f]{12})-page/", page.text)
    assert hashed is not None
    plain = (await http.get("/static/index.html")).text
    assert page.text == plain.replace("static/", hashed[0]).replace(
        '<html lang="en">', '<html lang="en" data-auth="none">'
    )
    outside = (
        "../pyproject.toml",
        "%2e%2e/pyproject.toml",
        "nothing",
        f"{hashed[1]}/../../pyproject.toml",
        f"{hashed[1]}/nothing",
    )
    for path in (*(f"/static/{name}" for name in outside), "/nothing"):
        assert (await http.get(path)).status_code == 404


REFERENCE = re.compile(r"""(?:\bfrom|\bimport|\bhref=|\bsrc=|\bURL\(|"src":)[ (]*["'`]([^"'`#]+)["'`]""")
COMMENT = re.compile(r"/\*.*?\*/|^ *// .*?$", re.DOTALL | re.MULTILINE)
STYLE_REFERENCE = re.compile(r"url\(([\w./-]+)\)")
PAGES = ("index.html", "docs.html", "app.webmanifest", "sw.js")
LIBRARY = ("turnwire.js", "turnwire.d.ts")


def needed(folder: Path) -> set[str]:
    """Return the pages, the client library, all files that these load (directly or not), and the vendored licenses."""
    found: set[str] = set()
    pending = [folder / name for name in (*PAGES, *LIBRARY)]
    while pending:
        path = pending.pop()
        name = str(path.relative_to(folder))
        if name in found:
            continue
        found.add(name)
        base = folder.parent if name in PAGES else path.parent
        source = COMMENT.sub("", path.read_text(encoding="utf-8", errors="replace"))
        for reference in (STYLE_REFERENCE if path.suffix == ".css" else REFERENCE).findall(source):
            named = (base / re.sub(r"\$\{\w+\}", "*", reference)).resolve()
            if named.is_relative_to(folder):
                pending += filter(Path.is_file, named.parent.glob(named.name))
    return found | {str(path.relative_to(folder)) for path in folder.glob("vendor/LICENSE-*.txt")}


async def test_only_files_of_pages_and_the_library_are_served(http: httpx2.AsyncClient) -> None:
    """Each file of the folder is requested over HTTP. Vendored licenses are served too."""
    folder = static_dir()
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    served = {name for name in files if (await http.get(f"/static/{name}")).status_code == 200}
    assert served == needed(folder)
    assert files - served == {"package.json"}, "it declares the library as a Node module, for users of the folder"


async def test_other_files_in_the_folder_are_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools, sources and backup files are not served, even if a client requests them by name."""
    left = ["update.sh", "package-lock.json", "turnwire.js~", "turnwire.js.map", ".env", "turnwire.ts", "turnwire.db"]
    for name in [*left, "page.js"]:
        (tmp_path / name).write_text("?")
    monkeypatch.setattr("gateway.http.routes.static_dir", lambda: tmp_path)
    async with serving() as server, httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        status = {name: (await http.get(f"/static/{name}")).status_code for name in [*left, "page.js"]}
    assert status == {**dict.fromkeys(left, 404), "page.js": 200}


@pytest.mark.parametrize("path", ["/", "/health", "/nothing", "/static/index.html"])
async def test_every_response_has_the_security_headers(http: httpx2.AsyncClient, path: str) -> None:
    """They forbid inline scripts, foreign sources, framing and sniffing. Errors have them too."""
    headers = (await http.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


async def test_the_frame_of_diagrams_has_a_policy_of_its_own(http: httpx2.AsyncClient) -> None:
    """It is sandboxed and may load nothing but its two scripts, which its origin of its own has to be allowed."""
    for name in ("diagram/frame.html", "diagram/frame.js", "vendor/mermaid.js"):
        answer = await http.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "sandbox allow-scripts" in policy
        assert "frame-ancestors 'self'" in policy
    font = await http.get("/static/vendor/katex/fonts/KaTeX_Main-Regular.woff2")
    assert (font.status_code, font.headers["cross-origin-resource-policy"]) == (200, "same-origin")


async def test_a_foreign_host_is_refused(http: httpx2.AsyncClient) -> None:
    """With auth off, only loopback hosts are served, on every path."""
    for path in ("/", "/health", "/v1/models"):
        answer = await http.get(path, headers={"host": "example.com"})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "forbidden"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await http.get("/health", headers={"host": "localhost:1"})).status_code == 200


def test_the_page_is_found_in_a_package_or_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder inside the installed package is preferred to the one beside it."""
    assert (static_dir() / "index.html").is_file()
    package = tmp_path / "gateway"
    (package / "static").mkdir(parents=True)
    monkeypatch.setattr("gateway.http.page.__file__", str(package / "http" / "page.py"))
    assert static_dir() == package / "static"
    (package / "static").rmdir()
    assert static_dir() == tmp_path / "static"
