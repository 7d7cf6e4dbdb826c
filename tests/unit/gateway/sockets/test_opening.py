"""Tests of the opening of a socket with auth on: credentials, refused first frames, limits, and the charge for loop time."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from gateway.identity.principal import Principal
from gateway.limits.loop_time import NETWORK_PREFIX
from gateway.sockets.opening import OPENING_COST_S
from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.in_loop_server import serving

PAGE = Origin("https://app.example")
JWT: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "allowed_origins": (PAGE,)}


async def result_of(url: str, *frames: str | bytes, codec: str = "json") -> tuple[list[dict[str, Any]], int]:
    """Return the frames that a page's socket receives for these frames, and its close code."""
    got = []
    async with connect(url, origin=PAGE, compression=None, subprotocols=[Subprotocol(f"turnwire.v1.{codec}")]) as ws:
        try:
            for frame in frames:
                await ws.send(frame)
            async for data in ws:
                got.append(msgspec.msgpack.decode(data) if isinstance(data, bytes) else msgspec.json.decode(data))
        except ConnectionClosed:
            pass
        return got, ws.close_code or 0


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_the_first_frame_can_authenticate(codec: str) -> None:
    """`ready` is sent after the authentication, then the result. Further requests follow as usual."""
    async with (
        serving(**JWT) as server,
        connect(server.ws_url, origin=PAGE, compression=None, subprotocols=[Subprotocol(f"turnwire.v1.{codec}")]) as ws,
    ):
        encode: Any = msgspec.msgpack.encode if codec == "msgpack" else lambda it: msgspec.json.encode(it).decode()
        decode: Any = msgspec.msgpack.decode if codec == "msgpack" else msgspec.json.decode
        await ws.send(encode({"type": "auth", "id": "1", "token": token("ann", exp=4_000_000_000)}))
        await ws.send(encode({"type": "ping", "id": "2", "t": 5}))
        ready, answer, pong = [decode(await ws.recv()) for _ in range(3)]
        assert (ready["type"], ready["user"]) == ("ready", "ann")
        assert answer["id"] == "1"
        assert answer["result"] == {"user": "ann", "expires_at": "2096-10-02T07:06:40.000Z"}
        assert pong["result"] == {"t": 5}


async def test_a_drain_that_begins_during_an_opening_closes_it() -> None:
    """No client stays on an instance that accepts no turns: after `ready` the socket closes at once with 4503."""
    async with serving(**JWT) as server, connect(server.ws_url, origin=PAGE) as ws:
        server.gateway.services.runner.is_draining = True
        await ws.send('{"type":"auth","token":"' + token() + '"}')
        async with asyncio.timeout(10):
            assert msgspec.json.decode(await ws.recv())["type"] == "ready"
            await ws.wait_closed()
        assert ws.close_code == 4503


async def test_a_header_or_a_ticket_authenticates_the_opening() -> None:
    """No first frame is needed. A ticket is valid only once."""
    async with serving(**JWT) as server:
        async with client(server.ws_url, additional_headers=bearer(token("ann"))) as c:
            assert c.ready["user"] == "ann"
        auth = server.gateway.services.authenticator
        ticket, _ = await auth.tickets.issue(
            await auth.authenticate([(b"authorization", f"Bearer {token('bob')}".encode())])
        )
        async with client(f"{server.ws_url}?ticket={ticket}", origin=PAGE) as c:
            assert c.ready["user"] == "bob"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{server.ws_url}?ticket={ticket}", origin=PAGE)
        assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("frame", "code", "closed"),
    [
        ('{"type":"auth","id":"1","token":"nonsense"}', "unauthenticated", 4401),
        ('{"type":"auth","token":"tk_nonsense"}', "unauthenticated", 4401),
        ('{"type":"ping","id":"1"}', "unauthenticated", 4401),
        ('{"type":"turn.start","input":"x"}', "unauthenticated", 4401),
        ('{"type":"auth"}', "invalid_request", 4400),
        ("nonsense", "invalid_frame", 4400),
        ('{"type":"auth","token":"' + "x" * 4096 + '"}', "too_large", 4400),
        ('{"type":"auth","token":"' + "é" * 2040 + '"}', "too_large", 4400),
    ],
)
async def test_any_other_first_frame_is_the_last(frame: str | bytes, code: str, closed: int) -> None:
    """The socket closes after one error, without `ready`."""
    async with serving(**JWT) as server:
        frames, got = await result_of(server.ws_url, frame)
        assert ([frame["error"]["code"] for frame in frames], got) == ([code], closed)


@pytest.mark.parametrize(("frame", "codec"), [(b"\x80", "json"), ('{"type":"ping"}', "msgpack")])
async def test_a_first_frame_with_the_wrong_opcode_closes_1003(frame: str | bytes, codec: str) -> None:
    """The client can't decode an error in the other codec, so it gets none."""
    async with serving(**JWT) as server:
        assert await result_of(server.ws_url, frame, codec=codec) == ([], 1003)


async def test_a_silent_client_is_closed() -> None:
    """The socket closes after the timeout and not before."""
    async with serving(**JWT, auth_timeout_s=0.2) as server:
        began = time.monotonic()
        assert await result_of(server.ws_url) == ([], 4408)
        assert 0.2 <= time.monotonic() - began < 3


async def test_a_client_that_leaves_before_auth_leaves_no_lease() -> None:
    """The client disconnects before or during its authentication."""
    async with serving(**JWT) as server:
        async with connect(server.ws_url, origin=PAGE):
            pass
        async with connect(server.ws_url, origin=PAGE) as ws:
            await ws.send('{"type":"auth","token":"nonsense"}')
            ws.transport.abort()
        assert not server.gateway.services.authenticator._leases


async def test_without_the_store_the_close_code_is_retryable() -> None:
    """The client isn't told that its credential is invalid."""
    async with serving(**JWT) as server:
        await server.gateway.store.close()
        frames, code = await result_of(server.ws_url, '{"type":"auth","token":"' + token() + '"}')
        assert ([frame["error"]["code"] for frame in frames], code) == (["store_unavailable"], 4503)


async def test_connections_of_a_user_are_limited() -> None:
    """The opening gets 429 if a header has the credential, and 4409 if a first frame has it. A close frees the permit."""
    async with serving(**JWT, user_connections=1) as server:
        header = bearer(token("ann"))
        async with client(server.ws_url, additional_headers=header):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.ws_url, additional_headers=header)
            assert refused.value.response.status_code == 429
            assert msgspec.json.decode(refused.value.response.body or b"")["error"]["code"] == "rate_limited"
            frames, code = await result_of(server.ws_url, '{"type":"auth","token":"' + token("ann") + '"}')
            assert ([frame["error"]["code"] for frame in frames], code) == (["rate_limited"], 4409)
            async with client(server.ws_url, additional_headers=bearer(token("bob"))):
                pass
        async with client(server.ws_url, additional_headers=header):
            pass
        assert not server.gateway.services.limits.connections.holders


async def test_connections_of_an_address_are_limited() -> None:
    """Sockets before authentication count too. `X-Forwarded-For` of a trusted proxy is used."""
    async with serving(**JWT, address_connections=2) as server, connect(server.ws_url, origin=PAGE):
        async with connect(server.ws_url, origin=PAGE):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.ws_url, origin=PAGE)
            assert refused.value.response.status_code == 429
            elsewhere = {"X-Forwarded-For": "192.0.2.7"}
            async with connect(server.ws_url, origin=PAGE, additional_headers=elsewhere):
                pass


async def test_x_forwarded_for_of_an_untrusted_client_is_ignored() -> None:
    """A client doesn't get more permits by sending other addresses."""
    async with (
        serving(**JWT, address_connections=1, trusted_proxies=("192.0.2.0/24",)) as server,
        connect(server.ws_url, origin=PAGE),
    ):
        with pytest.raises(InvalidStatus):
            await connect(server.ws_url, origin=PAGE, additional_headers={"X-Forwarded-For": "192.0.2.7"})


async def test_law_11_openings_are_charged_to_the_user_or_the_network() -> None:
    """The network pays for an opening that doesn't authenticate, and the user for any other."""
    async with serving(**JWT) as server:
        loop_time = server.gateway.services.limits.loop_time
        charged: dict[str, float] = {}

        def record(payer: str, took_s: float) -> None:
            charged[payer] = charged.get(payer, 0.0) + took_s

        loop_time.charge = record  # type: ignore[method-assign]
        network = f"{NETWORK_PREFIX}127.0.0.1"
        for first_frame in ({"token": "x.y.z"}, {"no": "token"}):
            await result_of(server.ws_url, json.dumps({"type": "auth", **first_frame}))
            assert charged.pop(network) > OPENING_COST_S
        async with connect(server.ws_url, origin=PAGE):
            pass
        with pytest.raises(InvalidStatus):
            await connect(server.ws_url, additional_headers=bearer("x.y.z"))
        assert charged.pop(network) > 2 * OPENING_COST_S
        async with connect(server.ws_url, origin=PAGE) as ws:
            await ws.send(json.dumps({"type": "auth", "token": token("ann")}))
            await ws.recv()
        assert charged.pop("ann") > OPENING_COST_S
        async with client(server.ws_url, additional_headers=bearer(token("bob"))):
            assert charged.pop("bob") > OPENING_COST_S
        assert charged.pop(network) < OPENING_COST_S


async def test_law_11_a_user_over_its_share_waits_for_its_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits before its credential is verified, and other users' sockets open meanwhile."""
    async with serving(**JWT) as server:
        services, verified = server.gateway.services, []
        validate = services.authenticator._validate

        async def record(principal: Principal) -> Principal:
            verified.append(principal.user)
            return await validate(principal)

        monkeypatch.setattr(services.authenticator, "_validate", record)
        eve = bearer(token("eve"))
        async with client(server.ws_url, additional_headers=eve):
            pass
        services.limits.loop_time.charge("eve", 60)
        waiting = asyncio.create_task(connect(server.ws_url, additional_headers=eve).__aenter__())
        async with client(server.ws_url, additional_headers=bearer(token("ann"))):
            assert not waiting.done()
        assert verified == ["eve", "ann"]
        waiting.cancel()
        await asyncio.wait([waiting])
