"""A credential that expires, is revoked, or loses its line in the key file ends on every instance."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.identity.api_keys import REMOVAL_DELAY_S
from gateway.protocol.ids import rfc3339
from tests.client import Client, client
from tests.credentials import (
    IDENTITY_SECRET,
    KeyFile,
    bearer,
    token,
)
from tests.e2e.sign_in import (
    JWT,
    LONG,
    PAGE,
    PROMISED_S,
    both_stores,
    outcome,
    post,
    redis_pair,
    refusal_code,
    run_turn,
    status_of,
    ticket,
    two_instances,
)
from tests.gateway_process import GatewayProcess, gateway_process
from tests.in_time import checks_time_limit, within

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


async def test_a_credential_expires_and_can_be_renewed(tmp_path: Path) -> None:
    """The client is warned, and only a token of the same user renews its credential. After the expiry no new turn can
    be started, and after the grace period the socket is closed with 4401."""
    environment = {**JWT, "TURNWIRE_AUTH_GRACE_S": "1", "TURNWIRE_JWT_LEEWAY_S": "0"}
    async with gateway_process(tmp_path, environment) as gateway:
        soon = int(time.time()) + 3
        async with client(gateway.ws_url, additional_headers=bearer(token("ann", exp=soon))) as c:
            await c.until(lambda: any(frame["type"] == "auth.expiring" for frame in c.frames))
            assert await refusal_code(c.request("auth", token=token("bob"))) == "forbidden"
            assert await refusal_code(c.request("auth", token="nonsense")) == "unauthenticated"
            renewed = await c.request("auth", token=token("ann", exp=soon + 1))
            assert renewed["user"] == "ann"
            while time.time() < soon + 1:
                await asyncio.sleep(0.05)
            assert await refusal_code(c.request("turn.start", input="x")) == "unauthenticated"
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
    async with redis_pair(tmp_path, environment) as (here, there), AsyncExitStack() as stack:
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
    async with two_instances(tmp_path, environment, store) as (here, there):
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
            assert await refusal_code(c.request("turn.start", input="x")) == "forbidden"
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
    async with two_instances(tmp_path, environment, store) as (here, there), AsyncExitStack() as stack:

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


@both_stores
@checks_time_limit
async def test_an_edited_key_line_applies_to_open_sockets(store: str, tmp_path: Path) -> None:
    """A new expiry is announced, and a request outside the new scopes is refused, without a reconnect. If the line has
    another user or hash, or the scopes no longer allow the socket's attachments, the socket is closed."""
    file = KeyFile(tmp_path)
    names = ("stays", "user", "sha256", "scopes")
    keys = {name: file.add("ann") for name in names}
    environment = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path), "TURNWIRE_DRAIN_S": "0"}
    async with two_instances(tmp_path, environment, store) as (_, there), AsyncExitStack() as stack:
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
            assert await refusal_code(stays.request("turn.start", input="x")) == "forbidden"
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
