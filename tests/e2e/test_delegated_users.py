"""A service that acts for its users: it names them by signed identities or by `as`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.protocol.ids import from_rfc3339
from tests.client import Client, client, small_buffer_socket
from tests.credentials import (
    IDENTITY_SECRET,
    SECRET,
    KeyFile,
    bearer,
    token,
)
from tests.demo import expected
from tests.e2e.sign_in import (
    JWT,
    outcome,
    refusal_code,
    run_turn,
    status_of,
)
from tests.gateway_process import gateway_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


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
            assert await refusal_code(c.request("ping", **{"as": "ann"})) == "forbidden"


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


async def flood_status(c: Client) -> str | None:
    """Return the status of the turn of the user "flood"."""
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
