"""Authentication against real gateway processes: each way to sign in, each reason for a refusal, and the end of a
credential."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from gateway.identity.api_keys import REMOVAL_DELAY_S
from gateway.protocol.ids import from_rfc3339, rfc3339
from tests.client import Client, RequestFailed, client, small_buffer_socket
from tests.credentials import (
    IDENTITY_SECRET,
    SECRET,
    KeyFile,
    bearer,
    jwks_server,
    private_key,
    public_jwk,
    public_pem,
    token,
)
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.in_time import checks_time_limit, within
from tests.redis_process import redis_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

LONG = {"demo": {"rate": 10, "tokens": 1000}}
PAGE = Origin("https://app.example")
JWT = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_ALLOWED_ORIGINS": PAGE}


@asynccontextmanager
async def pair(folder: Path, environment: dict[str, str]) -> AsyncIterator[list[GatewayProcess]]:
    """Start two instances on one Redis."""
    with redis_process(folder) as redis:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(gateway_process(folder, environment, store=redis.url)) for _ in range(2)
            ]


@asynccontextmanager
async def two(folder: Path, environment: dict[str, str], store: str) -> AsyncIterator[list[GatewayProcess]]:
    """Start two instances that share a Redis. SQLite allows only one instance, which is then in the list twice."""
    async with AsyncExitStack() as stack:
        if store == "redis":
            yield await stack.enter_async_context(pair(folder, environment))
        else:
            yield [await stack.enter_async_context(gateway_process(folder, environment))] * 2


both_stores = pytest.mark.parametrize("store", ["sqlite", "redis"])


async def post(url: str, path: str, credential: str, body: Any = None) -> httpx2.Response:
    """Send one POST request with a credential."""
    async with httpx2.AsyncClient() as http:
        return await http.post(url + path, headers=bearer(credential), json=body)


async def ticket(url: str, credential: str) -> str:
    """Return a ticket for a credential."""
    answer = await post(url, "/v1/tickets", credential)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ticket"])


async def status_of(url: str, **options: Any) -> int:
    """Return the HTTP status with which the opening is refused, or 101 if it is accepted."""
    try:
        async with connect(url, **options):
            return 101
    except InvalidStatus as refused:
        body = refused.response.body or b""
        assert json.loads(body)["error"]["message"]
        return refused.response.status_code


async def code(waiting: Any) -> str:
    """Return the code with which a request is refused."""
    with pytest.raises(RequestFailed) as refused:
        await waiting
    return refused.value.code


async def run_turn(c: Client, turn: str = "t") -> None:
    """Run one turn from its start to its end event."""
    await c.request("turn.start", turn=turn, input="Hello")
    await c.ending(turn)
    assert c.turns[turn].text() == expected("Hello", {})


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
    async with pair(tmp_path, JWT) as (here, there):
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


async def test_a_credential_expires_and_can_be_renewed(tmp_path: Path) -> None:
    """The client is warned, and only a token of the same user renews its credential. After the expiry no new turn can
    be started, and after the grace period the socket is closed with 4401."""
    environment = {**JWT, "TURNWIRE_AUTH_GRACE_S": "1", "TURNWIRE_JWT_LEEWAY_S": "0"}
    async with gateway_process(tmp_path, environment) as gateway:
        soon = int(time.time()) + 3
        async with client(gateway.ws_url, additional_headers=bearer(token("ann", exp=soon))) as c:
            await c.until(lambda: any(frame["type"] == "auth.expiring" for frame in c.frames))
            assert await code(c.request("auth", token=token("bob"))) == "forbidden"
            assert await code(c.request("auth", token="nonsense")) == "unauthenticated"
            renewed = await c.request("auth", token=token("ann", exp=soon + 1))
            assert renewed["user"] == "ann"
            while time.time() < soon + 1:
                await asyncio.sleep(0.05)
            assert await code(c.request("turn.start", input="x")) == "unauthenticated"
            assert await c.request("conversation.list") == {"conversations": []}
            closed = await c.until_closed()
            assert closed[0] == 4401
            assert soon + 1.9 <= time.time() < soon + 15


async def test_a_revocation_reaches_every_instance(tmp_path: Path) -> None:
    """The live connections of the revoked credentials are closed with 4401 on all instances, within 15 s for three
    revocations, and the credentials are refused. Another token of the same user stays valid."""
    file = KeyFile(tmp_path)
    key = file.add("eve")
    environment = {**JWT, "TURNWIRE_AUTH": "jwt,keys", "TURNWIRE_API_KEYS": str(file.path)}
    async with pair(tmp_path, environment) as (here, there), AsyncExitStack() as stack:
        admin = token("root", scope="admin")
        given = {"jti": token("ann", jti="j1"), "user": token("bob"), "key": key}
        clients = {
            name: [
                await stack.enter_async_context(client(one.ws_url, additional_headers=bearer(credential)))
                for one in (here, there)
            ]
            for name, credential in given.items()
        }
        stays = await stack.enter_async_context(client(there.ws_url, additional_headers=bearer(token("ann", jti="j2"))))
        assert (await post(here.url, "/v1/revocations", token("ann"), {"user": "bob"})).status_code == 403
        ahead = "2100-01-01T00:00:00Z"
        revocations = [{"jti": "j1"}, {"user": "bob", "before": ahead}, {"key": key.split("_")[1]}]
        began = time.monotonic()
        for name, revocation in zip(given, revocations, strict=True):
            assert (await post(here.url, "/v1/revocations", admin, revocation)).status_code == 200
            closed = await asyncio.gather(*[c.until_closed() for c in clients[name]])
            assert [code for code, _ in closed] == [4401, 4401], name
        assert time.monotonic() - began < 15
        for one in (here, there):
            for credential in given.values():
                assert await status_of(one.ws_url, additional_headers=bearer(credential)) == 401
        assert await stays.request("ping", t=1) == {"t": 1}


async def test_removing_a_key_closes_its_connections(tmp_path: Path) -> None:
    """The key file is read again; connections of other keys stay open."""
    file = KeyFile(tmp_path)
    gone, kept = file.add("ann"), file.add("bob")
    environment = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path)}
    async with (
        gateway_process(tmp_path, environment) as gateway,
        client(gateway.ws_url, additional_headers=bearer(gone)) as ann,
        client(gateway.ws_url, additional_headers=bearer(kept)) as bob,
    ):
        file.remove(gone)
        assert (await ann.until_closed(5))[0] == 4401
        await run_turn(bob)


async def until_refused(gateway: GatewayProcess, key: str) -> None:
    """Wait until the change of the key file has taken effect at this gateway, within the guaranteed 5 s."""
    with within(PROMISED_S):
        while await status_of(gateway.ws_url, additional_headers=bearer(key)) != 401:
            await asyncio.sleep(0.1)


PROMISED_S = 5
TICKET_KEY_CHANGES: dict[str, dict[str, Any] | None] = {
    "gone": None,
    "another key's": {"sha256": "11" * 32},
    "another user's": {"user": "eve"},
    "over": {"expires_at": "2020-01-01T00:00:00Z"},
}


@both_stores
@checks_time_limit
async def test_a_ticket_is_only_as_valid_as_its_key(store: str, tmp_path: Path) -> None:
    """After the key's line is removed, gets another hash or user, or expires, a ticket of the key is refused. If the
    key loses scopes, the ticket loses them too."""
    file = KeyFile(tmp_path)
    environment = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path), "TURNWIRE_ALLOWED_ORIGINS": PAGE}
    keys = {name: file.add("ann") for name in TICKET_KEY_CHANGES}
    narrow = file.add("bob")
    async with two(tmp_path, environment, store) as (here, there):
        tickets = {name: await ticket(here.url, key) for name, key in keys.items()}
        narrower = await ticket(here.url, narrow)
        assert await status_of(f"{there.ws_url}?ticket={await ticket(here.url, keys['gone'])}", origin=PAGE) == 101
        for name, change in TICKET_KEY_CHANGES.items():
            if change is None:
                file.remove(keys[name])
            else:
                file.edit(keys[name], **change)
        file.edit(narrow, scopes=["read"])
        await until_refused(there, keys["gone"])  # the last change to take effect
        for name, once in tickets.items():
            assert await status_of(f"{there.ws_url}?ticket={once}", origin=PAGE) == 401, name
        async with client(f"{there.ws_url}?ticket={narrower}", origin=PAGE) as c:
            assert await code(c.request("turn.start", input="x")) == "forbidden"
            assert await c.request("conversation.list") == {"conversations": []}


@both_stores
@checks_time_limit
async def test_a_revoked_service_loses_all_its_connections(store: str, tmp_path: Path) -> None:
    """The service's user, key or token is revoked, or its line is removed. The connections of the users that it named
    are closed (opened by header or by ticket, or renewed), and so is its own socket, on which it has started a turn
    with `as`."""
    file = KeyFile(tmp_path)
    environment = {
        **JWT,
        **{"TURNWIRE_AUTH": "jwt,keys", "TURNWIRE_API_KEYS": str(file.path)},
        **{"TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET, "TURNWIRE_DRAIN_S": "0"},
    }
    services = {
        "user": file.add_service("first"),
        "key": file.add_service("second"),
        "jti": token("third", jti="s", scope="chat read cancel as"),
        "line": file.add_service("fourth"),
    }
    revocations = {
        "user": {"user": "service:first", "before": "2100-01-01T00:00:00Z"},
        "key": {"key": services["key"].split("_")[1]},
        "jti": {"jti": "s"},
    }
    admin = token("root", scope="admin")
    async with two(tmp_path, environment, store) as (here, there), AsyncExitStack() as stack:

        async def enter(url: str, **options: Any) -> Client:
            return await stack.enter_async_context(client(url, **options))

        for name, service in services.items():
            named = {**bearer(service), "X-Turnwire-Identity": token("ann", IDENTITY_SECRET)}
            clients = [await enter(one.ws_url, additional_headers=named) for one in (here, there)]
            await clients[1].request("auth", token=token("ann", IDENTITY_SECRET))
            async with httpx2.AsyncClient() as http:
                given = [(await http.post(f"{here.url}/v1/tickets", headers=named)).json()["ticket"] for _ in range(2)]
            clients.append(await enter(f"{there.ws_url}?ticket={given[0]}", origin=PAGE))
            clients.append(await enter(there.ws_url, additional_headers=bearer(service)))
            await clients[-1].request("turn.start", **{"as": "bob"}, turn="t", input="x", params=LONG)
            with within(PROMISED_S):
                if name == "line":
                    file.remove(service)
                else:
                    assert (await post(here.url, "/v1/revocations", admin, revocations[name])).status_code == 200
                assert [(await c.until_closed())[0] for c in clients] == [4401] * 4, name
            assert await status_of(there.ws_url, additional_headers=named) == 401
            assert await status_of(f"{here.ws_url}?ticket={given[1]}", origin=PAGE) == 401


async def test_an_identity_renewal_keeps_the_services_expiry(tmp_path: Path) -> None:
    """The earlier of two expiries applies. After a renewal this is still the service's expiry, and the socket is closed at
    the end of the grace period after it."""
    environment = {
        **JWT,
        **{"TURNWIRE_AUTH_GRACE_S": "0.5", "TURNWIRE_JWT_LEEWAY_S": "0", "TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET},
    }
    async with gateway_process(tmp_path, environment) as gateway:
        soon = int(time.time()) + 3
        service = token("backend", scope="chat read as", exp=soon)
        named = {**bearer(service), "X-Turnwire-Identity": token("ann", IDENTITY_SECRET)}
        async with client(gateway.ws_url, additional_headers=named) as c:
            renewed = await c.request("auth", token=token("ann", IDENTITY_SECRET))
            assert from_rfc3339(renewed["expires_at"]) == soon * 1000
            assert (await c.until_closed())[0] == 4401
            assert soon <= time.time() < soon + 15


@both_stores
@checks_time_limit
async def test_an_edited_key_line_applies_to_open_sockets(store: str, tmp_path: Path) -> None:
    """A new expiry is announced, and a request outside the new scopes is refused, without a reconnect. If the line has
    another user or hash, or the scopes no longer allow the socket's attachments, the socket is closed."""
    file = KeyFile(tmp_path)
    names = ("stays", "user", "sha256", "scopes")
    keys = {name: file.add("ann") for name in names}
    environment = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path), "TURNWIRE_DRAIN_S": "0"}
    async with two(tmp_path, environment, store) as (_, there), AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(client(there.ws_url, additional_headers=bearer(key)))
            for name, key in keys.items()
        }
        stays = clients.pop("stays")
        await clients["scopes"].request("turn.start", turn="t", input="x", params=LONG)
        with within(PROMISED_S):
            file.edit(keys["stays"], scopes=["read"], expires_at=rfc3339(int(time.time() * 1000) + 50_000))
            file.edit(keys["user"], user="eve")
            file.edit(keys["sha256"], sha256="11" * 32)
            file.edit(keys["scopes"], scopes=["chat"])
            await stays.until(lambda: any(frame["type"] == "auth.expiring" for frame in stays.frames))
            assert await code(stays.request("turn.start", input="x")) == "forbidden"
            assert [(await c.until_closed())[0] for c in clients.values()] == [4401] * 3
        file.edit(keys["stays"], scopes=["chat", "read"], expires_at=None)
        with within(PROMISED_S):
            while "code" in await outcome(stays, "turn.start", {"turn": "t2", "input": "x"}):
                await asyncio.sleep(0.1)
        await stays.ending("t2")


@checks_time_limit
async def test_rewriting_the_key_file_closes_no_connection(tmp_path: Path) -> None:
    """The file is empty for more than one check and then as before: open connections stay open, and new ones are
    accepted."""
    file = KeyFile(tmp_path)
    key = file.add("ann")
    environment = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path)}
    async with (
        gateway_process(tmp_path, environment) as gateway,
        client(gateway.ws_url, additional_headers=bearer(key)) as c,
    ):
        text = file.path.read_text()
        with within(REMOVAL_DELAY_S):
            file.path.write_text("")
            await asyncio.sleep(1.1)
            assert await status_of(gateway.ws_url, additional_headers=bearer(key)) == 101
            file.path.write_text(text)
        for n in range(2 * PROMISED_S):
            assert await c.request("ping", t=n) == {"t": n}
            await asyncio.sleep(0.5)
        assert await status_of(gateway.ws_url, additional_headers=bearer(key)) == 101


async def test_unprefixed_scopes_of_the_issuer_are_ignored(tmp_path: Path) -> None:
    """With a scope prefix, the issuer's own `admin` scope grants nothing. Without a prefix the log warns at the
    start."""
    revoke = {"user": "nobody"}
    async with gateway_process(tmp_path, {**JWT, "TURNWIRE_SCOPE_PREFIX": "turnwire:"}) as gateway:
        ours, theirs = token("root", scope="turnwire:admin"), token("root", scope="admin openid")
        assert (await post(gateway.url, "/v1/revocations", theirs, revoke)).status_code == 403
        assert (await post(gateway.url, "/v1/revocations", ours, revoke)).status_code == 200
        async with client(gateway.ws_url, additional_headers=bearer(theirs)) as c:
            assert await code(c.request("conversation.list")) == "forbidden"
    assert "TURNWIRE_SCOPE_PREFIX" not in "".join(gateway.log)
    async with gateway_process(tmp_path, JWT) as gateway:
        assert (await post(gateway.url, "/v1/revocations", theirs, revoke)).status_code == 200
    assert "TURNWIRE_SCOPE_PREFIX" in "".join(gateway.log)


async def outcome(c: Client, kind: str, fields: dict[str, Any]) -> Any:
    """Return the result or the error of a request."""
    try:
        return await c.request(kind, **fields)
    except RequestFailed as refused:
        return refused.error


async def test_only_a_service_with_a_signed_identity_can_name_a_user(tmp_path: Path) -> None:
    """Only a service with the scope `as` may name a user, with one token that is signed with the identity secret."""
    file = KeyFile(tmp_path)
    service, user = file.add_service(), file.add("ann")
    plain = file.add(None, {"chat"}, service="other")
    environment = {
        "TURNWIRE_AUTH": "keys",
        "TURNWIRE_API_KEYS": str(file.path),
        "TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET,
    }
    async with gateway_process(tmp_path, environment) as gateway:
        bob = token("bob", IDENTITY_SECRET)

        def named(credential: str | None, *identities: str) -> list[tuple[str, str]]:
            given = [] if credential is None else [("Authorization", f"Bearer {credential}")]
            return [*given, *[("X-Turnwire-Identity", one) for one in identities]]

        for credential, identities, wanted in (
            (None, [bob], 403),
            (user, [bob], 403),
            (plain, [bob], 403),
            (service, [bob, bob], 403),
            (service, [token("eve", IDENTITY_SECRET), bob], 403),
            (service, [token("bob", SECRET)], 401),
            (service, [token("bob", IDENTITY_SECRET, exp=1)], 401),
            (service, ["bob"], 401),
        ):
            assert await status_of(gateway.ws_url, additional_headers=named(credential, *identities)) == wanted
        async with client(gateway.ws_url, additional_headers=named(service, bob)) as c:
            assert c.ready["user"] == "bob"
            await run_turn(c)
            assert await code(c.request("ping", **{"as": "ann"})) == "forbidden"


async def flood_status(c: Client) -> str | None:
    """Return the status of the user "flood"'s turn."""
    return (await outcome(c, "turn.get", {"as": "flood", "turn": "t"})).get("status")  # type: ignore[no-any-return]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_fifty_users_on_one_socket(codec: str, tmp_path: Path) -> None:
    """Laws 1 and 2 hold for each user though all turns have the same id, and each text belongs to its user."""
    file = KeyFile(tmp_path)
    key = file.add_service()
    environment = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path)}
    users = [f"user {n}" for n in range(50)]
    demo = {"rate": 100, "tokens": 60}
    async with (
        gateway_process(tmp_path, environment) as gateway,
        client(gateway.ws_url, codec=codec, additional_headers=bearer(key)) as c,
    ):
        waiting = [
            await c.send("turn.start", **{"as": user}, turn="t", input=f"I am {user}", params={"demo": demo})
            for user in users
        ]
        for request in waiting:
            assert (await c.answer(request))["status"] == "running"
        for user in users:
            ending = await c.ending(f"{user}/t", 60)
            assert (ending["type"], ending["as"]) == ("turn.completed", user)
            assert c.turns[f"{user}/t"].text() == expected(f"I am {user}", demo)


async def test_law_11_one_slow_user_doesnt_affect_others_on_the_socket(tmp_path: Path) -> None:
    """Law 11 on one socket: the turn of a user who exceeds the outbox bound is detached; another user's turn and the
    socket stay."""
    file = KeyFile(tmp_path)
    key = file.add_service()
    environment = {
        "TURNWIRE_AUTH": "keys",
        "TURNWIRE_API_KEYS": str(file.path),
        "TURNWIRE_OUTBOX_BYTES": "65536",
    }
    async with gateway_process(tmp_path, environment) as gateway:
        raw = small_buffer_socket(gateway.ws_url)
        async with (
            client(gateway.ws_url, additional_headers=bearer(key), sock=raw, max_queue=1) as c,
            client(gateway.ws_url, additional_headers=bearer(key)) as other,
        ):
            flood = {"demo": {"rate": 0, "tokens": 60_000}}
            calm = {"demo": {"rate": 20, "tokens": 100}}
            await c.request("turn.start", **{"as": "calm"}, turn="t", input="x", params=calm)
            c.reading.clear()
            await c.send("turn.start", **{"as": "flood"}, turn="t", input="x", params=flood)
            while await flood_status(other) != "completed":
                await asyncio.sleep(0.05)
            c.reading.set()
            await c.until(lambda: c.detached.get("flood/t") == "too_slow", 30)
            await c.ending("calm/t", 30)
            assert c.turns["calm/t"].text() == expected("x", calm["demo"])
            held = c.turns["flood/t"].position
            attached = await c.request("turn.attach", **{"as": "flood"}, positions={"t": held})
            assert attached["turns"]["t"]["from"] == held["seq"]


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
