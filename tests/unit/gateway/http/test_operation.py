"""Tests of one operation of the API: where its fields are, and when its credential is checked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.http.operation import Operation, RequestContext, ResponseSpec
from gateway.identity import credential_sweeps
from tests.client import client
from tests.credentials import KeyFile, bearer
from tests.in_loop_server import serving


async def handler(context: RequestContext) -> None:
    """Do nothing."""


@pytest.mark.parametrize(("method", "has_body"), [("GET", False), ("DELETE", False), ("POST", True), ("PATCH", True)])
def test_the_method_determines_the_place_of_the_fields(method: str, has_body: bool) -> None:
    """The fields are in the body of a POST or PATCH, and otherwise in the query."""
    row = Operation(method, "/", "", handler, (ResponseSpec(""),))
    assert row.has_body is has_body


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        ("/v1/turns", b'{"turn":"t","input":"x"}', None),
        ("/v1/turns", b'{"turn":"t","input":"x"}', {"scopes": ["admin"]}),
        ("/v1/revocations", b'{"user":"bob"}', {"scopes": ["as", "chat"]}),
    ],
)
async def test_a_credential_is_checked_again_after_the_body(
    path: str, body: bytes, change: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the body can take a minute. If the credential is revoked or loses a scope meanwhile, the request has no
    effect."""
    monkeypatch.setattr(credential_sweeps, "SWEEP_S", 0.01)
    file = KeyFile(tmp_path)
    key = file.add(None, {"chat", "read", "admin", "as"}, service="backend")
    async with serving(auth="keys", api_keys=str(file.path)) as server:
        authority = server.gateway.services.authenticator
        async with client(server.ws_url, additional_headers=bearer(key)) as other:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", "Expect: 100-continue"]
            head += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
            writer.write("\r\n".join(head).encode())
            assert b" 100 " in await reader.readuntil(b"\r\n\r\n")  # the first check is done, and the body is awaited
            if change is None:
                await authority.revocations.revoke(f"key:{key.split('_')[1]}")
            else:
                file.edit(key, **change)
            assert (await other.until_closed())[0] == 4401
        revoked = await authority.revocations.version()
        writer.write(body)
        assert b" 401 " in await reader.readline()
        writer.close()
        assert server.gateway.services.registry.live() == []
        assert await authority.revocations.version() == revoked
        assert not authority._leases
