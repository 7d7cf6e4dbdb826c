"""Who is who, against real gateway processes: each way to come in, each way to be refused, and how it ends."""

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
from tests.in_time import bounds_a_time, within
from tests.redis_process import redis_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

LONG = {"demo": {"rate": 10, "tokens": 1000}}
PAGE = Origin("https://app.example")
JWT = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_ALLOWED_ORIGINS": PAGE}


@asynccontextmanager
async def pair(folder: Path, environment: dict[str, str]) -> AsyncIterator[list[GatewayProcess]]:
    """Two instances on one Redis."""
    with redis_process(folder) as redis:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(gateway_process(folder, environment, store=redis.url)) for _ in range(2)
            ]


@asynccontextmanager
async def two(folder: Path, environment: dict[str, str], store: str) -> AsyncIterator[list[GatewayProcess]]:
    """Two instances that share a Redis. On SQLite there can be only one instance, which stands in the list twice."""
    async with AsyncExitStack() as stack:
        if store == "redis":
            yield await stack.enter_async_context(pair(folder, environment))
        else:
            yield [await stack.enter_async_context(gateway_process(folder, environment))] * 2


both_stores = pytest.mark.parametrize("store", ["sqlite", "redis"])


async def post(url: str, path: str, credential: str, body: Any = None) -> httpx2.Response:
    """One request with a credential."""
    async with httpx2.AsyncClient() as http:
        return await http.post(url + path, headers=bearer(credential), json=body)


async def ticket(url: str, credential: str) -> str:
    """A ticket for a credential."""
    answer = await post(url, "/v1/tickets", credential)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ticket"])


async def status_of(url: str, **options: Any) -> int:
    """With which HTTP status an opening is refused; 101 where it isn't."""
    try:
        async with connect(url, **options):
            return 101
    except InvalidStatus as refused:
        body = refused.response.body or b""
        assert json.loads(body)["error"]["message"]
        return refused.response.status_code


async def code(waiting: Any) -> str:
    """With which code a request is refused."""
    with pytest.raises(RequestFailed) as refused:
        await waiting
    return refused.value.code


async def run_turn(c: Client, turn: str = "t") -> None:
    """One turn, from its start to its ending."""
    await c.request("turn.start", turn=turn, input="Hello")
    await c.ending(turn)
    assert c.turns[turn].text() == expected("Hello", {})


async def test_who_brings_a_token_comes_in(tmp_path: Path) -> None:
    """By header, by ticket and by the first frame; the same user each time."""
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
async def test_a_public_key_is_no_secret(algorithm: str, tmp_path: Path) -> None:
    """The operator's own key lets in; `alg: none`, another's key, and the public key as a secret don't."""
    key, other = private_key(algorithm), private_key(algorithm)
    environment = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_PUBLIC_KEY": public_pem(key)}
    async with gateway_process(tmp_path, environment) as gateway:
        good = token(key=key, algorithm=algorithm)
        assert await status_of(gateway.ws_url, additional_headers=bearer(good)) == 101
        for wrong in (token(key=other, algorithm=algorithm), token(key="", algorithm="none"), token()):
            assert await status_of(gateway.ws_url, additional_headers=bearer(wrong)) == 401


async def test_tokens_that_do_not_count(tmp_path: Path) -> None:
    """Expired, not yet valid, another issuer, another audience, no end."""
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


async def test_keys_are_rotated_without_a_restart(tmp_path: Path) -> None:
    """A token of a new key is accepted when it is first seen; unknown names don't become a flood of questions."""
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


async def test_a_ticket_is_taken_once_of_all_instances(tmp_path: Path) -> None:
    """Both are asked at the same moment; one lets in."""
    async with pair(tmp_path, JWT) as (here, there):
        for _ in range(5):
            once = await ticket(here.url, token("ann"))
            tries = [status_of(f"{one.ws_url}?ticket={once}", origin=PAGE) for one in (here, there, here, there)]
            assert sorted(await asyncio.gather(*tries)) == [101, 401, 401, 401]


async def test_a_ticket_gets_too_old(tmp_path: Path) -> None:
    """After its time it lets nobody in."""
    async with gateway_process(tmp_path, {**JWT, "TURNWIRE_TICKET_TTL_S": "0.3"}) as gateway:
        once = await ticket(gateway.url, token("ann"))
        await asyncio.sleep(0.4)
        assert await status_of(f"{gateway.ws_url}?ticket={once}", origin=PAGE) == 401


async def test_pages_of_other_sites_do_not_come_in(tmp_path: Path) -> None:
    """Nor does a browser that hides where it comes from; a long-lived token in the address never does."""
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


async def test_who_does_not_say_who_it_is_is_closed(tmp_path: Path) -> None:
    """4408 after the time for it; nothing was said before."""
    async with gateway_process(tmp_path, {**JWT, "TURNWIRE_AUTH_TIMEOUT_S": "0.5"}) as gateway:
        began = time.monotonic()
        async with connect(gateway.ws_url, origin=PAGE) as ws:
            await ws.wait_closed()
            assert ws.close_code == 4408
            assert 0.5 <= time.monotonic() - began < 15


async def test_a_credential_ends_and_is_renewed(tmp_path: Path) -> None:
    """Warned, renewed by the same user only; else nothing new starts, and 4401 after the grace."""
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
    """Live connections are closed with 4401 within 5 s wherever they are, and nobody comes back in."""
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
        wishes = [{"jti": "j1"}, {"user": "bob", "before": ahead}, {"key": key.split("_")[1]}]
        began = time.monotonic()
        for name, wish in zip(given, wishes, strict=True):
            assert (await post(here.url, "/v1/revocations", admin, wish)).status_code == 200
            closed = await asyncio.gather(*[c.until_closed() for c in clients[name]])
            assert [code for code, _ in closed] == [4401, 4401], name
        assert time.monotonic() - began < 15
        for one in (here, there):
            for credential in given.values():
                assert await status_of(one.ws_url, additional_headers=bearer(credential)) == 401
        assert await stays.request("ping", t=1) == {"t": 1}


async def test_a_key_that_is_taken_away_ends_its_connections(tmp_path: Path) -> None:
    """The file is read again; the rest of the keys goes on."""
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
    """A change of the file has arrived there, within the 5 s that are promised."""
    with within(PROMISED_S):
        while await status_of(gateway.ws_url, additional_headers=bearer(key)) != 401:
            await asyncio.sleep(0.1)


PROMISED_S = 5
TICKETED: dict[str, dict[str, Any] | None] = {
    "gone": None,
    "another key's": {"sha256": "11" * 32},
    "another user's": {"user": "eve"},
    "over": {"expires_at": "2020-01-01T00:00:00Z"},
}


@both_stores
@bounds_a_time
async def test_a_ticket_is_as_good_as_its_key(store: str, tmp_path: Path) -> None:
    """Where the key's line is gone, or is another's, or has ended, nobody comes in by a ticket that it was traded for; where
    the key allows less, so does the ticket."""
    file = KeyFile(tmp_path)
    environment = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path), "TURNWIRE_ALLOWED_ORIGINS": PAGE}
    keys = {name: file.add("ann") for name in TICKETED}
    narrow = file.add("bob")
    async with two(tmp_path, environment, store) as (here, there):
        tickets = {name: await ticket(here.url, key) for name, key in keys.items()}
        narrower = await ticket(here.url, narrow)
        assert await status_of(f"{there.ws_url}?ticket={await ticket(here.url, keys['gone'])}", origin=PAGE) == 101
        for name, change in TICKETED.items():
            if change is None:
                file.remove(keys[name])
            else:
                file.edit(keys[name], **change)
        file.edit(narrow, scopes=["read"])
        await until_refused(there, keys["gone"])  # the last that arrives
        for name, once in tickets.items():
            assert await status_of(f"{there.ws_url}?ticket={once}", origin=PAGE) == 401, name
        async with client(f"{there.ws_url}?ticket={narrower}", origin=PAGE) as c:
            assert await code(c.request("turn.start", input="x")) == "forbidden"
            assert await c.request("conversation.list") == {"conversations": []}


@both_stores
@bounds_a_time
async def test_a_revoked_service_speaks_for_nobody(store: str, tmp_path: Path) -> None:
    """Its user, its key, its token or its line: whom it named is out, by the header, by a ticket and after a renewal, and so
    is its own socket with all that it says by `as`."""
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
    wishes = {
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
                    assert (await post(here.url, "/v1/revocations", admin, wishes[name])).status_code == 200
                assert [(await c.until_closed())[0] for c in clients] == [4401] * 4, name
            assert await status_of(there.ws_url, additional_headers=named) == 401
            assert await status_of(f"{here.ws_url}?ticket={given[1]}", origin=PAGE) == 401


async def test_a_renewal_by_an_identity_keeps_the_service_s_end(tmp_path: Path) -> None:
    """The earlier of both ends counts: the user is warned, and is out after the grace."""
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
@bounds_a_time
async def test_an_edited_line_reaches_live_sockets(store: str, tmp_path: Path) -> None:
    """Its end is announced, and what it no longer allows is refused, without a new opening; where it has become another's, or
    what the socket follows is no longer allowed, the socket is closed."""
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


@bounds_a_time
async def test_a_key_file_that_is_written_in_place_closes_nobody(tmp_path: Path) -> None:
    """It is empty for more than one look, and then as before: who is here stays, who comes comes in."""
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


async def test_scopes_of_the_issuer_are_not_ours(tmp_path: Path) -> None:
    """With a prefix its own `admin` is nothing here; without one the log warns at the start."""
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
    """The answer to a request, whichever it is."""
    try:
        return await c.request(kind, **fields)
    except RequestFailed as refused:
        return refused.error


async def test_nobody_smuggles_an_identity(tmp_path: Path) -> None:
    """Only a service's connection may name a user, by a token that is signed for it, once."""
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


async def outcome_status(c: Client) -> str | None:
    """How the flood stands."""
    return (await outcome(c, "turn.get", {"as": "flood", "turn": "t"})).get("status")  # type: ignore[no-any-return]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_fifty_users_on_one_socket(codec: str, tmp_path: Path) -> None:
    """Laws 1 and 2 for each of them, under one turn id; each text is its own user's."""
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


async def test_one_slow_user_of_many_is_dropped_alone(tmp_path: Path) -> None:
    """Law 11 within a socket: past the bound that user's turns are detached; the others' and the socket stay."""
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
            while await outcome_status(other) != "completed":
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
async def test_what_can_not_protect_does_not_start(environment: dict[str, str], words: str, tmp_path: Path) -> None:
    """A sentence says what to set; no secret is in it."""
    with pytest.raises(RuntimeError, match=words) as refused:
        async with gateway_process(tmp_path, environment):
            pass
    assert SECRET not in str(refused.value)
    assert "Traceback" not in str(refused.value)
