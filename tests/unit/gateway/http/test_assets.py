"""Tests of the page's files: hashed addresses, compression, conditional requests, and changes of a file."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from gateway.http import assets
from tests.in_loop_server import serving

PAGE = """<!doctype html>
<html lang="en">
<link rel="stylesheet" href="static/page.css">
<script type="module" src="static/chat/page.js"></script>
"""
FILES = {
    "index.html": PAGE,
    "docs.html": PAGE,
    "page.css": "body { color: black }\n" * 100,
    "chat/page.js": 'import { dom } from "./dom.js";\n\nconsole.log(dom);\n',
    "chat/dom.js": "export const dom = 1;\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the files, which may change, as in a checkout."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("gateway.http.routes.static_dir", lambda: tmp_path)
    return tmp_path


@pytest.fixture
async def http(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving() as server, httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client


async def hash_of(http: httpx2.AsyncClient) -> str:
    """Return the hash in the page's addresses."""
    found = re.findall(r'"static/([0-9a-f]{12})-page/[\w./]+"', (await http.get("/")).text)
    assert len(found) == 2
    assert len({*found}) == 1
    return str(found[0])


async def get_raw(http: httpx2.AsyncClient, path: str, **headers: str) -> tuple[httpx2.Response, bytes]:
    """Return the response and its body, still compressed."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.stream("GET", path, headers=names) as response:
        return response, b"".join([chunk async for chunk in response.aiter_raw()])


async def test_a_hashed_address_is_immutable(http: httpx2.AsyncClient) -> None:
    """The page's modules are joined, those of the documents aren't. Without the hash, a file must be checked each time,
    and the address of an earlier version has the current file, for this once."""
    current = await hash_of(http)
    page = await http.get(f"/static/{current}-page/chat/page.js")
    assert "dom = 1" in page.text
    assert page.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert page.headers["content-type"] == "text/javascript; charset=utf-8"
    docs = (await http.get("/docs")).text
    assert f'"static/{current}/chat/page.js"' in docs
    assert f'"static/{current}/chat/page.js"' in (await http.get("/?modules")).text
    assert (await http.get(f"/static/{current}/chat/page.js")).text == FILES["chat/page.js"]
    plain = await http.get("/static/chat/page.js")
    assert (plain.text, plain.headers["cache-control"]) == (FILES["chat/page.js"], "no-cache")
    old = await http.get("/static/000000000000-page/chat/page.js")
    assert (old.content, old.headers["cache-control"]) == (page.content, "no-store")
    assert (await http.get(f"/static/{current}/nothing.js")).status_code == 404
    wrong = await http.post(f"/static/{current}/chat/page.js")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, br;q=0", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("br ; q=0.0, gzip;q=0", None),
        ("brotli, xgzip, identity", None),
        ("", None),
    ],
)
async def test_the_best_accepted_encoding_is_used(
    http: httpx2.AsyncClient, accepted: str, encoding: str | None
) -> None:
    """Files and pages are compressed if that makes them smaller; a cache can tell the answers apart."""
    current = await hash_of(http)
    response, body = await get_raw(http, f"/static/{current}-page/page.css", accept_encoding=accepted)
    assert response.headers.get("content-encoding") == encoding
    assert int(response.headers["content-length"]) == len(body)
    assert "Accept-Encoding" in response.headers["vary"]
    if encoding == "br":
        body = importlib.import_module("brotli").decompress(body)
    elif encoding == "gzip":
        body = gzip.decompress(body)
    assert body.decode() == FILES["page.css"]
    small, _ = await get_raw(http, f"/static/{current}/chat/dom.js", accept_encoding=accepted)
    assert "content-encoding" not in small.headers


async def test_an_answer_of_the_api_is_never_compressed(http: httpx2.AsyncClient) -> None:
    """An answer may have a secret beside what somebody else has written, so its size must tell nothing."""
    for path in ("/openapi.json", "/v1/models", "/v1"):
        response, body = await get_raw(http, path, accept_encoding="gzip, br")
        assert "content-encoding" not in response.headers
        assert body.startswith(b"{")


async def test_a_file_that_the_client_has_isnt_sent_again(http: httpx2.AsyncClient) -> None:
    """The tag is that of one encoding. HEAD tells the same as GET."""
    current = await hash_of(http)
    for path in ("/", "/docs", f"/static/{current}/page.css", f"/static/{current}-page/page.css"):
        first, body = await get_raw(http, path, accept_encoding="gzip")
        tag = first.headers["etag"]
        again = await http.get(path, headers={"accept-encoding": "gzip", "if-none-match": f'"other", W/{tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert (await http.get(path, headers={"accept-encoding": "", "if-none-match": tag})).status_code == 200
        lines = [
            ("accept-encoding", "identity"),
            ("accept-encoding", "gzip"),
            ("if-none-match", '"x"'),
            ("if-none-match", tag),
        ]
        assert (await http.get(path, headers=lines)).status_code == 304
        assert (await http.get(path, headers={"if-none-match": "*"})).status_code == 304
        head = await http.head(path, headers={"accept-encoding": "gzip"})
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
        assert int(head.headers["content-length"]) == len(body)


async def test_a_changed_file_changes_the_hash(http: httpx2.AsyncClient, folder: Path) -> None:
    """Those who edit the page only reload it. A module that can't be joined is served as it is, and a warning says why."""
    first = await hash_of(http)
    assert await hash_of(http) == first
    (folder / "chat/dom.js").write_text("export const dom = 22;\n")
    second = await hash_of(http)
    assert second != first
    assert "dom = 22" in (await http.get(f"/static/{second}-page/chat/page.js")).text
    (folder / "chat/dom.js").write_text("export let dom = 333;\n")
    with structlog.testing.capture_logs() as logs:
        third = await hash_of(http)
    assert (await http.get(f"/static/{third}-page/chat/page.js")).text == FILES["chat/page.js"]
    assert [(log["event"], "export let" in log["reason"]) for log in logs] == [("page_modules_not_joined", True)]


async def test_a_gateway_reads_no_file_before_a_page_is_requested(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start, a health check and the API cost nothing for the page. An installed page is read once."""
    monkeypatch.setattr(assets, "_load", lambda *_, **__: pytest.fail("read"))
    for path in ("/health", "/v1", "/openapi.json", "/static/chat/page.js"):
        assert (await http.get(path)).status_code == 200


async def test_a_file_is_hashed_and_compressed_once(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask for it, at once or later: no client has to sign in to ask for a file of megabytes."""
    compressed: list[bytes] = []
    hashed: list[bytes] = []
    compress, sha256 = assets._compress, hashlib.sha256

    def counting_compress(content: bytes, encoding: str) -> bytes | None:
        compressed.append(content)
        return compress(content, encoding)

    def counting_sha256(content: bytes = b"") -> Any:
        hashed.append(content)
        return sha256(content)

    path = f"/static/{await hash_of(http)}/page.css"
    monkeypatch.setattr(assets, "_compress", counting_compress)
    monkeypatch.setattr(hashlib, "sha256", counting_sha256)
    for encoding in ("gzip", "gzip", ""):
        responses = await asyncio.gather(*[http.get(path, headers={"accept-encoding": encoding}) for _ in range(10)])
        assert {response.text for response in responses} == {FILES["page.css"]}
    content = FILES["page.css"].encode()
    assert (compressed.count(content), hashed.count(content)) == (1, 1)


async def test_a_link_that_leads_out_of_the_folder_is_not_served(http: httpx2.AsyncClient, folder: Path) -> None:
    """Neither with the hash nor without. A link inside the folder is."""
    secret = folder.parent / "secret.txt"
    secret.write_text("secret")
    (folder / "out.txt").symlink_to(secret)
    (folder / "in.css").symlink_to(folder / "page.css")
    current = await hash_of(http)
    for start in (f"/static/{current}", f"/static/{current}-page", "/static"):
        assert (await http.get(f"{start}/out.txt")).status_code == 404
        assert (await http.get(f"{start}/in.css")).text == FILES["page.css"]
        assert (await http.get(f"{start}/..%2fsecret.txt")).status_code == 404


async def test_an_installed_page_is_read_once(folder: Path) -> None:
    """A package doesn't change while it runs."""
    installed = assets.Assets(folder, is_installed=True, auth="keys")
    scope = {"type": "http", "method": "GET", "headers": [], "query_string": b"", "path": "/"}
    first = await installed.page("index.html", scope)
    assert b'<html lang="en" data-auth="keys">' in first.body
    (folder / "chat/dom.js").unlink()
    assert (await installed.page("index.html", scope)).body == first.body
