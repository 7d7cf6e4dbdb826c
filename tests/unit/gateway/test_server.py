"""The server: the drain before uvicorn's shutdown, the start, garbage collection, listening, and the ready line."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.server import BACKLOG, GC_THRESHOLDS, make_server, ready_line
from gateway.supervisor import listen
from store.errors import StoreError
from store.sqlite.store import SqliteStore
from tests.client import client
from tests.in_loop_server import serving
from tests.in_process import SLOW, make_settings


async def test_a_stop_drains_before_sockets_close() -> None:
    """On a stop, clients receive `going_away`, turns get their endings, and sockets close with 4503, not 1012."""
    async with serving(drain_s=0) as running, client(running.ws_url) as c:
        await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        running.server.should_exit = True
        assert (await c.ending("t"))["error"]["code"] == "shutting_down"
        assert (await c.until_closed())[0] == 4503
        assert "going_away" in [frame["type"] for frame in c.frames]


@pytest.fixture
def raised_again() -> Iterator[list[int]]:
    """Record each SIGTERM that uvicorn raises again after shutdown. Without this handler it would kill the process."""
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    yield signals
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_signal_during_the_ready_callback_is_a_clean_exit(raised_again: list[int], times: int) -> None:
    """A signal can arrive as soon as the server is ready: the gateway drains, and uvicorn doesn't raise the signal again,
    so the process exits with 0."""
    settings = make_settings(drain_s=0)
    gateway = Gateway(settings, {})

    def stop() -> None:
        for _ in range(times):
            signal.raise_signal(signal.SIGTERM)

    with listen("127.0.0.1", 0, 1, BACKLOG)[0] as listening:
        await make_server(gateway, settings, stop).serve(sockets=[listening])
    assert gateway.services.runner.is_draining
    assert raised_again == []


async def test_garbage_collection_is_rare_and_skips_imported_objects() -> None:
    """A serving process has frozen its imported objects, and it collects only after thousands of new objects."""
    thresholds = gc.get_threshold()
    gc.unfreeze()
    try:
        async with serving():
            assert gc.get_threshold() == GC_THRESHOLDS
            assert gc.get_freeze_count() > 10_000
    finally:
        gc.set_threshold(*thresholds)


async def test_a_store_that_fails_to_open_stops_the_server(tmp_path: Path) -> None:
    """The failure is raised as a `StoreError`, and the ready callback isn't called."""
    path = tmp_path / "turnwire.db"
    holder = SqliteStore(str(path))
    await holder.open()
    settings = make_settings(store=f"sqlite:///{path}")
    gateway = Gateway(settings, {})
    listening = listen("127.0.0.1", 0, 1, BACKLOG)[0]
    ready = asyncio.Event()
    with pytest.raises(StoreError, match="in use"):
        await make_server(gateway, settings, ready.set).serve(sockets=[listening])
    assert not ready.is_set()
    listening.close()
    await holder.close()
    await gateway.store.close()


def test_a_port_that_is_taken_is_an_error() -> None:
    """Listening on a port in use raises `OSError` with `EADDRINUSE`."""
    with listen("127.0.0.1", 0, 1, BACKLOG)[0] as taken, pytest.raises(OSError, match=r".") as refused:
        listen("127.0.0.1", taken.getsockname()[1], 1, BACKLOG)
    assert refused.value.errno == errno.EADDRINUSE


def test_an_ipv6_address_can_be_listened_on() -> None:
    """An address with colons is an IPv6 address."""
    try:
        listening = listen("::1", 0, 1, BACKLOG)[0]
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listening:
        assert listening.getsockname()[0] == "::1"


def test_the_ready_line_names_url_keys_and_access() -> None:
    """The line has the page's address, the providers with keys but never a key, and which clients have access."""
    plain = ready_line(Gateway(make_settings(), {}), 1234)
    assert plain.startswith("Turnwire is ready: open http://127.0.0.1:1234 - ")
    assert "no provider keys" in plain
    assert "loopback only" in plain
    keyed = ready_line(Gateway(make_settings(insecure=True, host="0.0.0.0"), {"OPENAI_API_KEY": "sk-secret"}), 1)
    assert "keys for openai -" in keyed
    azure = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://x.example", "OPENROUTER_API_KEY": "k"}
    assert "keys for azure, openrouter -" in ready_line(Gateway(make_settings(), azure), 1)
    assert "THE NETWORK HAS ACCESS" in keyed
    assert "secret" not in keyed
