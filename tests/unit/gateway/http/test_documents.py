"""Tests of the two API documents: they are served, generated only once, and displayed by a page."""

from __future__ import annotations

import re

import pytest

from tests.http_events import http_client
from tests.in_loop_server import serving


@pytest.mark.parametrize(("path", "key"), [("/openapi.json", "openapi"), ("/asyncapi.json", "asyncapi")])
async def test_a_document_is_served_as_json(path: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second request gets the document that was generated for the first."""
    async with serving() as server, http_client(server.url) as http:
        first = await http.get(path)
        assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
        assert first.json()[key].startswith("3.")
        for name in ("openapi", "asyncapi"):
            monkeypatch.setattr(f"gateway.http.routes.{name}", lambda _: pytest.fail("generated twice"))
        assert (await http.get(path)).content == first.content
        again = await http.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_the_documents_page_is_served() -> None:
    """The page's policy allows no inline script or style. The page's script and style are served, too."""
    async with serving() as server, http_client(server.url) as http:
        page = await http.get("/docs")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "unsafe-inline" not in page.headers["content-security-policy"]
        found = re.findall(r'"(static/[0-9a-f]{12}/docs/docs\.(?:js|css))"', page.text)
        assert len(found) == 2
        for address in found:
            assert (await http.get(f"/{address}")).status_code == 200
