"""Tests of tickets and revocations over HTTP: permissions and responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.protocol.ids import from_rfc3339, now_ms
from tests.credentials import SECRET, KeyFile, bearer, token
from tests.in_loop_server import serving

JWT = {"auth": "jwt", "jwt_secret": SECRET}


async def post(url: str, path: str, headers: dict[str, str], body: Any = None) -> httpx2.Response:
    """Send one request."""
    async with httpx2.AsyncClient() as client:
        return await client.post(url + path, headers=headers, json=body)


async def test_a_ticket_is_issued_for_a_valid_credential() -> None:
    """The response has the expiry, and must not be cached."""
    async with serving(**JWT) as server:
        answer = await post(server.url, "/v1/tickets", bearer(token("ann")))
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        body = answer.json()
        assert set(body) == {"ticket", "expires_at"}
        assert 0 < from_rfc3339(body["expires_at"]) - now_ms() <= 30_000
        ann = await server.gateway.services.authenticator.authenticate_token(body["ticket"])
        assert ann.user == "ann"


async def test_a_refused_client_gets_no_ticket() -> None:
    """This covers a missing credential, an invalid one, and another site's page."""
    async with serving(**JWT) as server:
        for headers in ({}, bearer("nonsense")):
            answer = await post(server.url, "/v1/tickets", headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = await post(server.url, "/v1/tickets", {**bearer(token()), "Origin": "https://evil.example"})
        assert answer.status_code == 403


async def test_with_auth_off_tickets_are_issued_too() -> None:
    """A page doesn't need to know whether auth is on."""
    async with serving() as server:
        assert (await post(server.url, "/v1/tickets", {})).status_code == 200


async def test_only_an_administrator_revokes() -> None:
    """Other users are forbidden, and nothing is revoked."""
    async with serving(**JWT) as server:
        answer = await post(server.url, "/v1/revocations", bearer(token("ann")), {"user": "bob"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert await server.gateway.services.authenticator.revocations.version() is None


@pytest.mark.parametrize(
    ("asked", "revoked"),
    [
        ({"jti": "j"}, token("ann", jti="j")),
        ({"user": "ann", "before": "2100-01-01T00:00:00Z"}, token("ann")),
        ({"user": "ann"}, token("ann", iat=1)),
    ],
)
async def test_a_revoked_token_is_refused(asked: dict[str, str], revoked: str) -> None:
    """The administrator's own token stays valid."""
    async with serving(**JWT) as server:
        admin = bearer(token("root", scope="admin"))
        assert (await post(server.url, "/v1/tickets", bearer(revoked))).status_code == 200
        answer = await post(server.url, "/v1/revocations", admin, asked)
        assert (answer.status_code, answer.json()) == (200, {})
        assert (await post(server.url, "/v1/tickets", bearer(revoked))).status_code == 401
        assert (await post(server.url, "/v1/tickets", admin)).status_code == 200


async def test_a_key_is_revoked_by_its_id(tmp_path: Path) -> None:
    """The revocation applies although the key's line is still in the file."""
    file = KeyFile(tmp_path)
    key, admin = file.add("ann"), bearer(file.add("root", {"admin"}))
    async with serving(auth="keys", api_keys=str(file.path)) as server:
        assert (await post(server.url, "/v1/revocations", admin, {"key": key.split("_")[1]})).status_code == 200
        assert (await post(server.url, "/v1/tickets", bearer(key))).status_code == 401


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 400),
        ({"jti": "a", "key": "b"}, 400),
        ({"jti": "a", "before": "2100-01-01T00:00:00Z"}, 400),
        ({"user": "ann", "before": "soon"}, 400),
        ({"user": ""}, 400),
        ({"name": "ann"}, 400),
        ([], 400),
        ({"user": "x" * 5000}, 400),
    ],
)
async def test_an_invalid_revocation_is_refused(asked: Any, status: int) -> None:
    """The error has a message."""
    async with serving(**JWT) as server:
        answer = await post(server.url, "/v1/revocations", bearer(token(scope="admin")), asked)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


async def test_without_the_store_a_revocation_fails() -> None:
    """The caller is told to try again."""
    async with serving() as server:
        await server.gateway.store.close()
        answer = await post(server.url, "/v1/revocations", {}, {"user": "ann"})
        assert (answer.status_code, answer.json()["error"]["retryable"]) == (503, True)
