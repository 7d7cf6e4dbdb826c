"""Tests of `/docs/guide`: the site of the documents, with its own policy, below a path prefix, and when it isn't built."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from gateway.http import routes
from tests.in_loop_server import serving

POLICY = "default-src 'self'; script-src 'self' 'sha256-x'"


@pytest.mark.parametrize("prefix", ["", "/chat"])
async def test_the_site_is_served_with_its_policy(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has the policy of the site, and the other security headers. A folder leads to its index by a relative address,
    which is right behind any proxy. An unknown page is the usual error."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<p>page")
    (tmp_path / "index.html").write_text("<p>start")
    (tmp_path / "content-security-policy.txt").write_text(f"{POLICY}\n")
    monkeypatch.setattr(routes, "guide_dir", lambda: tmp_path)
    async with (
        serving(path_prefix=prefix) as server,
        httpx2.AsyncClient(base_url=f"{server.url}{prefix}", trust_env=False) as http,
    ):
        for path, location in (("/docs/guide", "guide/"), ("/docs/guide/page", "page/")):
            redirected = await http.get(path)
            assert (redirected.is_redirect, redirected.headers["location"]) == (True, location)
        for path, text in (("/docs/guide/", "<p>start"), ("/docs/guide/page/", "<p>page")):
            page = await http.get(path)
            assert (page.status_code, page.text) == (200, text)
            assert page.headers["content-security-policy"] == POLICY
            assert page.headers["x-content-type-options"] == "nosniff"
        missing = await http.get("/docs/guide/nothing/")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
        assert (await http.get("/docs/guide/..%2f..%2fsecret")).status_code == 404


async def test_without_the_site_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `make docs` was not run, each address of the site is a 404 that names it."""
    monkeypatch.setattr(routes, "guide_dir", lambda: tmp_path / "none")
    async with serving() as server, httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        for path in ("/docs/guide/", "/docs/guide/protocol/"):
            missing = await http.get(path)
            assert missing.status_code == 404
            assert "make docs" in missing.json()["error"]["message"]
