"""Signing in at real gateway processes: each kind of credential, and each reason for a refusal."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from tests.client import client
from tests.credentials import (
    SECRET,
    bearer,
    jwks_server,
    private_key,
    public_jwk,
    public_pem,
    token,
)
from tests.e2e.sign_in import (
    JWT,
    PAGE,
    post,
    redis_pair,
    refusal_code,
    run_turn,
    status_of,
    ticket,
)
from tests.gateway_process import gateway_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


async def test_a_token_is_accepted_by_header_ticket_and_first_frame(tmp_path: Path) -> None:
    """The token is accepted in a header, as a ticket and in the first frame, for the same user each time."""
    async with gateway_process(tmp_path, JWT) as gateway:
        assert "auth by jwt" in gateway.ready_line
        async with client(gateway.ws_url, additional_headers=bearer(token("ann"))) as c:
            assert c.ready["user"] == "ann"
            await run_turn(c)
        once = await ticket(gateway.url, token("ann"))
        async with client(f"{gateway.ws_url}?ticket={once}", origin=PAGE) as c:
            assert (await c.request("turn.get", turn="t"))["status"] == "completed"
        assert await status_of(f"{gateway.ws_url}?ticket={once}", origin=PAGE) == 401
        async with client(gateway.ws_url, origin=PAGE, first={"type": "auth", "token": token("ann")}) as c:
            assert (await c.request("turn.get", turn="t"))["status"] == "completed"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_only_tokens_of_the_operators_key_are_accepted(algorithm: str, tmp_path: Path) -> None:
    """A token signed with the operator's key is accepted. `alg: none`, a token of another key, and a token signed with
    a shared secret are refused."""
    key, other = private_key(algorithm), private_key(algorithm)
    environment = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_PUBLIC_KEY": public_pem(key)}
    async with gateway_process(tmp_path, environment) as gateway:
        good = token(key=key, algorithm=algorithm)
        assert await status_of(gateway.ws_url, additional_headers=bearer(good)) == 101
        for wrong in (token(key=other, algorithm=algorithm), token(key="", algorithm="none"), token()):
            assert await status_of(gateway.ws_url, additional_headers=bearer(wrong)) == 401


async def test_invalid_tokens_are_refused(tmp_path: Path) -> None:
    """A token is refused if it is expired, not yet valid, of another issuer or audience, or without an expiry."""
    environment = {**JWT, "TURNWIRE_JWT_ISSUER": "https://id.example", "TURNWIRE_JWT_AUDIENCE": "turnwire"}
    good: dict[str, Any] = {"iss": "https://id.example", "aud": "turnwire"}
    async with gateway_process(tmp_path, environment) as gateway:
        assert await status_of(gateway.ws_url, additional_headers=bearer(token(**good))) == 101
        for wrong in (
            {"exp": int(time.time()) - 60},
            {"exp": None},
            {"nbf": int(time.time()) + 60},
            {"iss": "https://evil.example"},
            {"aud": "other"},
            {"iss": None},
            {"aud": None},
        ):
            given: dict[str, Any] = {**good, **wrong}
            assert await status_of(gateway.ws_url, additional_headers=bearer(token(**given))) == 401, wrong


async def test_signing_keys_can_be_rotated_without_a_restart(tmp_path: Path) -> None:
    """A token of a new key is accepted the first time it is used. Unknown key ids don't cause a flood of requests for
    the key set."""
    old, new = private_key("ES256"), private_key("ES256")
    async with jwks_server() as server:
        server.keys = [public_jwk(old, "old")]
        environment = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_JWKS_URL": server.url}
        async with gateway_process(tmp_path, environment) as gateway:

            async def opens(key: Any, kid: str) -> int:
                given = token(key=key, algorithm="ES256", kid=kid)
                return await status_of(gateway.ws_url, additional_headers=bearer(given))

            assert await opens(old, "old") == 101
            server.keys = [public_jwk(old, "old"), public_jwk(new, "new")]
            assert await opens(new, "new") == 101
            before = server.requests
            assert await asyncio.gather(*[opens(new, f"k{n}") for n in range(20)]) == [401] * 20
            assert server.requests - before <= 1
            server.status = 500
            assert await opens(new, "new") == 101


async def test_a_ticket_can_be_used_once_on_all_instances(tmp_path: Path) -> None:
    """Of concurrent openings with one ticket on both instances exactly one is accepted."""
    async with redis_pair(tmp_path, JWT) as (here, there):
        for _ in range(5):
            once = await ticket(here.url, token("ann"))
            tries = [status_of(f"{one.ws_url}?ticket={once}", origin=PAGE) for one in (here, there, here, there)]
            assert sorted(await asyncio.gather(*tries)) == [101, 401, 401, 401]


async def test_a_ticket_expires(tmp_path: Path) -> None:
    """A ticket is refused after its lifetime."""
    async with gateway_process(tmp_path, {**JWT, "TURNWIRE_TICKET_TTL_S": "0.3"}) as gateway:
        once = await ticket(gateway.url, token("ann"))
        await asyncio.sleep(0.4)
        assert await status_of(f"{gateway.ws_url}?ticket={once}", origin=PAGE) == 401


async def test_foreign_origins_and_tokens_in_the_url_are_refused(tmp_path: Path) -> None:
    """Pages of other sites are refused, as is a ticket without an origin; a long-lived token in the URL is never
    accepted."""
    async with gateway_process(tmp_path, JWT) as gateway:
        good = bearer(token("ann"))
        for origin in ("https://evil.example", "https://app.example.evil", "http://app.example", "null"):
            assert await status_of(gateway.ws_url, origin=Origin(origin), additional_headers=good) == 403
            once = await ticket(gateway.url, token("ann"))
            assert await status_of(f"{gateway.ws_url}?ticket={once}", origin=Origin(origin)) == 403
        assert await status_of(f"{gateway.ws_url}?ticket={await ticket(gateway.url, token())}") == 403
        for name in ("token", "access_token"):
            assert await status_of(f"{gateway.ws_url}?{name}={token()}", additional_headers=good) == 401
        assert await status_of(gateway.ws_url, origin=PAGE, additional_headers=good) == 101


async def test_a_socket_without_a_credential_is_closed_after_the_timeout(tmp_path: Path) -> None:
    """A socket that sends no credential is closed with 4408 after the timeout."""
    async with gateway_process(tmp_path, {**JWT, "TURNWIRE_AUTH_TIMEOUT_S": "0.5"}) as gateway:
        began = time.monotonic()
        async with connect(gateway.ws_url, origin=PAGE) as ws:
            await ws.wait_closed()
            assert ws.close_code == 4408
            assert 0.5 <= time.monotonic() - began < 15


async def test_unprefixed_scopes_of_the_issuer_are_ignored(tmp_path: Path) -> None:
    """With a scope prefix, the issuer's own `admin` scope grants nothing. Without a prefix the log warns at the
    start."""
    revoke = {"user": "nobody"}
    async with gateway_process(tmp_path, {**JWT, "TURNWIRE_SCOPE_PREFIX": "turnwire:"}) as gateway:
        ours, theirs = token("root", scope="turnwire:admin"), token("root", scope="admin openid")
        assert (await post(gateway.url, "/v1/revocations", theirs, revoke)).status_code == 403
        assert (await post(gateway.url, "/v1/revocations", ours, revoke)).status_code == 200
        async with client(gateway.ws_url, additional_headers=bearer(theirs)) as c:
            assert await refusal_code(c.request("conversation.list")) == "forbidden"
    assert "TURNWIRE_SCOPE_PREFIX" not in "".join(gateway.log)
    async with gateway_process(tmp_path, JWT) as gateway:
        assert (await post(gateway.url, "/v1/revocations", theirs, revoke)).status_code == 200
    assert "TURNWIRE_SCOPE_PREFIX" in "".join(gateway.log)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TURNWIRE_AUTH": "jwt"}, "requires a key"),
        ({"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": "short"}, "TURNWIRE_JWT_SECRET is invalid"),
        ({"TURNWIRE_JWT_SECRET": SECRET}, "doesn't include jwt"),
        ({**JWT, "TURNWIRE_JWT_ALGORITHMS": "RS256"}, "doesn't fit the key"),
        ({"TURNWIRE_AUTH": "keys"}, "TURNWIRE_API_KEYS"),
        ({"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": "no-such-file"}, "turnwire keys new"),
        ({"TURNWIRE_AUTH": "sometimes"}, "TURNWIRE_AUTH is invalid"),
    ],
)
async def test_invalid_auth_settings_prevent_the_start(environment: dict[str, str], words: str, tmp_path: Path) -> None:
    """The error says which setting is wrong and contains no secret."""
    with pytest.raises(RuntimeError, match=words) as refused:
        async with gateway_process(tmp_path, environment):
            pass
    assert SECRET not in str(refused.value)
    assert "Traceback" not in str(refused.value)
