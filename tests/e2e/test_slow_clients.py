"""Clients that don't read, answer or finish a message: each is disconnected in time, and other clients aren't affected.

Also heartbeats, a fragmented message, and two turns that share a socket.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.client import client, small_buffer_socket
from tests.gateway_process import GatewayProcess, gateway_process
from tests.in_time import checks_time_limit, within
from tests.raw_socket import CONTINUATION, TEXT, RawFrame, connect_tcp, connect_websocket, read_to_end

pytestmark = pytest.mark.e2e


async def wait_for_log(gateway: GatewayProcess, text: str, timeout_s: float = 10) -> None:
    """Wait until the gateway has logged `text`."""
    async with asyncio.timeout(timeout_s):
        while not any(text in line for line in gateway.log):
            await asyncio.sleep(0.02)


@pytest.mark.timed
@checks_time_limit
async def test_law_11_a_slow_client_is_closed_with_4501(tmp_path: Path) -> None:
    """Law 11: beyond the outbox limit the client is closed with 4501 and can resume; the turn and a fast client don't
    wait for it."""
    params = {"demo": {"rate": 0, "tokens": 60_000}}
    # On a busy machine the client may begin to read only after the default close timeout.
    async with gateway_process(tmp_path, {"TURNWIRE_CLOSE_TIMEOUT_S": "30"}) as gateway:
        await _overflow_and_resume(gateway, params)


async def _overflow_and_resume(gateway: GatewayProcess, params: dict[str, Any]) -> None:
    async with (
        client(gateway.ws_url, sock=small_buffer_socket(gateway.ws_url), max_queue=1) as slow,
        client(gateway.ws_url) as fast,
    ):
        slow.reading.clear()
        await slow.send("turn.start", turn="flood", input="Hello", params=params)
        await fast.until_status("flood", "completed")
        with within(1):
            await fast.request("ping")
        await wait_for_log(gateway, "code=4501")
        slow.reading.set()
        assert (await slow.until_closed())[0] == 4501
        held = slow.turns["flood"]
    async with client(gateway.ws_url) as again, client(gateway.ws_url) as whole:
        again.resume("flood", held)
        await again.request("turn.attach", positions={"flood": held.position})
        await whole.request("turn.attach", turn="flood")
        await again.ending("flood")
        await whole.ending("flood")
        assert held.text() == whole.turns["flood"].text()


async def test_a_client_that_never_reads_the_close_is_disconnected(tmp_path: Path) -> None:
    """After the close with 4501, the client reads nothing more: its socket is aborted after the close timeout."""
    environment = {"TURNWIRE_CLOSE_TIMEOUT_S": "0.5"}
    async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as fast:
        async with client(gateway.ws_url, sock=small_buffer_socket(gateway.ws_url), max_queue=1, read=False) as slow:
            await slow.send("turn.start", turn="flood", input="Hello", params={"demo": {"rate": 0, "tokens": 60_000}})
            await wait_for_log(gateway, "code=4501")
            other = fast.ready["connection"]
            await wait_for_log(gateway, "connection closed", 5)
            assert not any("connection closed" in line and other in line for line in gateway.log)
            slow.socket.transport.abort()


async def test_a_client_that_answers_no_ping_is_disconnected(tmp_path: Path) -> None:
    """The client's buffers are full and it doesn't answer pings: its socket is aborted after the ping interval and
    timeout."""
    environment = {
        "TURNWIRE_PING_INTERVAL_S": "0.5",
        "TURNWIRE_PING_TIMEOUT_S": "0.5",
        "TURNWIRE_OUTBOX_BYTES": str(64 * 1024 * 1024),
    }
    async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as fast:
        async with client(gateway.ws_url, sock=small_buffer_socket(gateway.ws_url), max_queue=1, read=False) as slow:
            slow.socket.transport.pause_reading()
            await slow.send("turn.start", turn="flood", input="Hello", params={"demo": {"rate": 0, "tokens": 60_000}})
            await wait_for_log(gateway, "connection closed", 8)
            slow.socket.transport.abort()
        assert (await fast.request("turn.get", turn="flood"))["status"] in {"running", "completed"}
        gateway.terminate()
        assert await gateway.wait(10) == 0


@pytest.mark.parametrize("sent", [b"", b"GET /ws HTTP/1.1\r\nHost: 127"], ids=["silent", "half"])
async def test_an_unfinished_handshake_is_closed(tmp_path: Path, sent: bytes) -> None:
    """A connection that doesn't finish its request head is closed after the handshake timeout."""
    async with gateway_process(tmp_path, {"TURNWIRE_HANDSHAKE_TIMEOUT_S": "0.4"}) as gateway:
        reader, writer = await connect_tcp(gateway.url)
        writer.write(sent)
        assert await read_to_end(reader) == b""
        writer.close()


@pytest.mark.parametrize("fragments", [70, 20_000])
async def test_a_message_of_too_many_fragments_is_refused(gateway: GatewayProcess, fragments: int) -> None:
    """A message of more than 64 fragments closes the socket with 4400, even if the fragments are empty and however many
    more follow."""
    reader, writer = await connect_websocket(gateway.url)
    writer.write(RawFrame(TEXT, b"{", fin=False).encode() + RawFrame(CONTINUATION, fin=False).encode() * fragments)
    received = await read_to_end(reader)
    if fragments < 100:  # after a flood that isn't read, TCP may reset the connection and lose the close frame
        assert (4400).to_bytes(2, "big") in received
    writer.close()


async def test_a_message_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    """A message without its last fragment closes the socket with 4400 after the message timeout."""
    async with gateway_process(tmp_path, {"TURNWIRE_MESSAGE_TIMEOUT_S": "0.4"}) as gateway:
        reader, writer = await connect_websocket(gateway.url)
        writer.write(RawFrame(TEXT, b"{", fin=False).encode())
        assert (4400).to_bytes(2, "big") in await read_to_end(reader)
        writer.close()


async def test_a_fragmented_message_is_read(gateway: GatewayProcess) -> None:
    """A message in a few fragments is handled as one message."""
    reader, writer = await connect_websocket(gateway.url)
    frames = RawFrame(TEXT, b'{"type":"ping",', fin=False), RawFrame(CONTINUATION, b'"id":"1","t":7}')
    writer.write(b"".join(frame.encode() for frame in frames))
    async with asyncio.timeout(5):
        assert b'{"t":7}' in await reader.readuntil(b"}}")
    writer.close()


async def test_heartbeats_are_sent_on_a_quiet_connection(tmp_path: Path) -> None:
    """A quiet connection gets a heartbeat per interval; a connection that streams a turn needs none."""
    async with gateway_process(tmp_path, {"TURNWIRE_HEARTBEAT_S": "0.3"}) as gateway:
        async with client(gateway.ws_url) as c:
            assert c.ready["heartbeat_s"] == 0.3

            def beats() -> list[dict[str, Any]]:
                return [frame for frame in c.frames if frame["type"] == "heartbeat"]

            await c.until(lambda: len(beats()) >= 2)
            quiet = len(beats())
            await c.request("turn.start", turn="t", input="x", params={"demo": {"rate": 50, "tokens": 50}})
            await c.ending("t")
            assert len(beats()) <= quiet + 1


@pytest.mark.timed
@checks_time_limit
async def test_a_fast_turn_doesnt_starve_another_on_the_same_socket(gateway: GatewayProcess) -> None:
    """A turn that streams at full speed doesn't delay a turn with a fixed rate on the same socket."""
    async with client(gateway.ws_url) as c:
        await c.request("turn.start", turn="flood", input="x", params={"demo": {"rate": 0, "tokens": 30_000}})
        with within(4):
            await c.request("turn.start", turn="paced", input="x", params={"demo": {"rate": 100, "tokens": 100}})
            await c.ending("paced")
        await c.ending("flood")
