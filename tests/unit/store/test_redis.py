"""The Redis store passes the conformance tests on one server; if it can't be opened, it says why.

Further tests are about lost data, replicas, the databases of one Redis, and the eviction policy.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from store.api import Store, turn_channel
from store.errors import StoreError
from store.records import Append, Appended
from store.redis import client as client_module
from store.redis.scripts import Script, load_scripts
from store.redis.store import RedisStore
from tests.redis_process import RedisProcess, redis_process, redis_server, redis_store, shared_redis, speaks_tls
from tests.store_conformance import StoreConformance
from tests.stored import OpenStore, conversation, ending, listening, new_turn, piece, running, say, stateless_turn

__all__ = ["redis_server", "shared_redis"]


async def _instances(server: RedisProcess) -> AsyncIterator[OpenStore]:
    server.execute("FLUSHALL")
    async with AsyncExitStack() as stores:

        async def open_store() -> Store:
            return await stores.enter_async_context(redis_store(server.url))

        yield open_store


def scripts_with_shebang(**settings: Any) -> dict[str, Script]:
    """Return the scripts with a shebang line, with which Redis checks the slot of every key that they use."""
    marked = {name: b"#!lua\n" + script.source for name, script in load_scripts(**settings).items()}
    return {name: Script(name, source, hashlib.sha1(source).hexdigest().encode()) for name, source in marked.items()}


class TestRedis(StoreConformance):
    """With one Redis server."""

    @pytest.fixture
    async def open_store(self, shared_redis: RedisProcess) -> AsyncIterator[OpenStore]:
        """Stores on one empty Redis."""
        async for open_store in _instances(shared_redis):
            yield open_store


async def refusal(url: str) -> str:
    """Open the store, and return the error's message; assert that its traceback has no password."""
    with pytest.raises(StoreError) as raised:
        async with redis_store(url):
            pass
    shown = "".join(traceback.format_exception(raised.value))
    assert "s3cret" not in shown
    return str(raised.value)


async def test_an_unreachable_redis_is_named(redis_server: RedisProcess) -> None:
    """The error names the unreachable address and contains no password."""
    redis_server.stop()
    message = await refusal(f"redis://ann:s3cret@127.0.0.1:{redis_server.port}/0")
    assert f"127.0.0.1:{redis_server.port}" in message
    assert "can't be reached" in message


async def test_a_refused_password_is_not_shown(tmp_path: Path) -> None:
    """The error says that the credentials are refused; with the right ones the store opens."""
    with redis_process(tmp_path / "redis", password="right") as server:
        at = f"127.0.0.1:{server.port}"
        for secret in ("", ":s3cret@"):
            message = await refusal(f"redis://{secret}{at}/0")
            assert "credentials" in message
            assert at in message
        async with redis_store(server.url) as store:
            await store.ping()


async def test_a_failed_script_load_names_the_address(redis_server: RedisProcess) -> None:
    """The error names the address even if only the last step of opening fails."""
    redis_server.execute("ACL", "SETUSER", "ann", "on", ">s3cret", "~*", "&*", "+@all", "-script|load")
    assert f"127.0.0.1:{redis_server.port}" in await refusal(f"redis://ann:s3cret@127.0.0.1:{redis_server.port}/0")


async def test_the_documented_user_of_redis_may_do_everything(redis_server: RedisProcess) -> None:
    """The user of docs/operations.md runs turns, searches, subscribes and is erased; it may not list or delete all keys."""
    text = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")
    command = re.search(r"^redis-cli (ACL SETUSER turnwire (?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert command is not None
    redis_server.execute(*shlex.split(command[1].replace("\\\n", "")))
    url = redis_server.url.replace("//", "//turnwire:PASSWORD@")
    async with redis_store(url, archived=True) as store, listening(store) as received:
        await store.create_conversation(conversation())
        await store.subscribe(turn_channel("ann", "t1"))
        await store.publish(turn_channel("ann", "t1"), b"hello")
        await received.next()
        await say(store, "c1", "a refund")
        found, _ = await store.search("ann", "refund", 10, None)
        assert [each.record.id for each in found] == ["c1"]
        await store.put_ephemeral("key", b"value", 60_000)
        await store.erase_user("ann")
        assert await store.conversations("ann", 10, None) == ([], False)
    async with Redis.from_url(url) as link:
        execute: Any = link.execute_command
        for refused in (("KEYS", "*"), ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*")):
            with pytest.raises(NoPermissionError):
                await execute(*refused)


async def test_opening_is_retried_while_redis_is_silent(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening is retried if Redis doesn't respond for a moment; if it never responds, the error names the address."""
    monkeypatch.setattr(client_module, "CALL_TIMEOUT_S", 0.7)
    redis_server.freeze()
    try:
        message = await refusal(redis_server.url)
        assert "didn't respond in time" in message
        assert f"127.0.0.1:{redis_server.port}" in message
        async with asyncio.TaskGroup() as tasks:
            opened = tasks.create_task(open_and_ping(redis_server.url))
            await asyncio.sleep(0.9)
            assert not opened.done()
            redis_server.thaw()
    finally:
        redis_server.thaw()


async def open_and_ping(url: str) -> None:
    async with redis_store(url) as store:
        await store.ping()


async def test_over_tls(tmp_path: Path) -> None:
    """Over `rediss://`, calls, pub/sub and a log of several reads work; an untrusted certificate is reported."""
    if not speaks_tls():
        pytest.skip("this Redis was built without TLS")
    with redis_process(tmp_path / "redis", password="right", tls=True) as server:
        async with redis_store(server.url) as store, listening(store) as received:
            turn = await running(store, stateless_turn())
            await store.subscribe("turn:ann:t1")
            for n in range(1, 7):
                await store.append([Append("ann", "t1", turn.epoch, n, n, b"x" * 256 * 1024)])
                assert (await received.next())[0] == "turn:ann:t1"
            entries, read = [], await store.log("ann", "t1", 0)
            while read:
                entries += read
                read = await store.log("ann", "t1", entries[-1].last)
            assert [(one.first, len(one.payload)) for one in entries] == [(n, 256 * 1024) for n in range(1, 7)]
        message = await refusal(server.url.replace("right", "s3cret").partition("?")[0])
        assert "certificate" in message
        assert f"127.0.0.1:{server.port}" in message
        message = await refusal(f"redis://:s3cret@127.0.0.1:{server.port}/0")
        assert "can't be reached" in message
        assert "use rediss://" in message


async def test_tls_with_a_plain_redis_is_explained(redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `rediss://` is used with a plain port, the error suggests `redis://`, even if Redis doesn't respond at all."""
    monkeypatch.setattr(client_module, "CALL_TIMEOUT_S", 0.5)
    message = await refusal(f"rediss://:s3cret@127.0.0.1:{redis_server.port}/0")
    assert "use redis://" in message


async def test_an_unknown_database_is_explained(redis_server: RedisProcess) -> None:
    """For `redis://host/99`, the error says what is wrong and what to do."""
    message = await refusal(redis_server.url.replace("/0", "/99"))
    assert message.startswith("The store doesn't have this database. Name another one at the end of its URL")
    assert f"127.0.0.1:{redis_server.port}" in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret/x@host:port/0",
        "redis://localhost:99999999/0?s3cret=1",
        "redis://localhost/0?s3cret=1",
        "redis://localhost/s3cret",
        "redis://localhost/-1?s3cret",
        "http://s3cret",
    ],
)
def test_an_invalid_url_is_not_quoted(url: str) -> None:
    """The error doesn't quote a part of the URL that can contain a password."""
    with pytest.raises(StoreError) as raised:
        RedisStore(url)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("version", ["6.0.9", None])
async def test_an_old_redis_is_refused(version: str | None) -> None:
    """The error has the version and the required one; a version before 6 can't report its own."""
    gone = asyncio.Event()
    hello = f"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n{version}\r\n".encode()

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            unknown = b"-ERR unknown command `HELLO`, with args beginning with:\r\n"
            answer = hello if version else unknown
            writer.write(answer if b"HELLO" in data else b":0\r\n" * data.count(b"ZCARD"))
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(old, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    message = await refusal(f"redis://127.0.0.1:{port}/0")
    assert (version or "doesn't know") in message
    assert "6.2" in message
    async with asyncio.timeout(5):
        await gone.wait()
    server.close()
    await server.wait_closed()


async def test_turns_can_be_restored_after_redis_lost_its_data(redis_server: RedisProcess) -> None:
    """Law 9: after Redis lost its data, appends and renewals report a missing turn, and it can be accepted again."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        await store.append([piece(turn, 1, 3)])
        redis_server.restart(with_data=False)
        assert await store.append([piece(turn, 4, 4)]) == [Appended("missing", 0)]
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], 1000)
        assert (lease.held, lease.missing) == (True, True)
        await store.create_conversation(conversation())
        again = await running(store, new_turn())
        assert await store.append([piece(again, 1, 4)]) == [Appended("stored", 4)]
        await store.end(ending(await store.turn("ann", "t1")))


async def test_an_acknowledged_ending_survives_a_kill(tmp_path: Path) -> None:
    """Law 3: with an append-only file, a stored ending survives a kill of Redis."""
    with redis_process(tmp_path / "redis", appendonly=True) as server:
        async with redis_store(server.url) as store:
            await store.create_conversation(conversation())
            turn = await running(store, new_turn())
            stored = await store.end(ending(turn))
            server.restart()
            assert await store.conversation("ann", "c1") == stored
            assert (await store.turn("ann", "t1")).ending == b"the ending"


async def test_an_ending_waits_for_the_replicas(
    redis_server: RedisProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `wait_replicas`, `end` returns after a replica has the ending. It waits for a frozen replica for at most
    `wait_ms` and logs a warning. No other call waits."""
    monkeypatch.setattr(client_module, "CALL_TIMEOUT_S", 30)
    redis_server.execute("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    with redis_process(tmp_path / "replica", replica_of=redis_server.port) as replica:
        async with AsyncExitStack() as stores, asyncio.timeout(25):
            patient = await stores.enter_async_context(redis_store(redis_server.url, wait_replicas=1, wait_ms=29_000))
            hasty = await stores.enter_async_context(redis_store(redis_server.url, wait_replicas=1, wait_ms=300))
            while b"state=online" not in redis_server.execute("INFO", "REPLICATION"):
                await asyncio.sleep(0.01)
            turns = [await running(patient, stateless_turn(f"t{n}")) for n in range(3)]
            await patient.end(ending(turns[0]))
            replica.freeze()
            waiting = asyncio.get_running_loop().create_task(patient.end(ending(turns[1])))
            assert not (await asyncio.wait([waiting], timeout=0.3))[0]
            await running(patient, stateless_turn("t3"))
            replica.thaw()
            await waiting
            assert caplog.messages == []
            replica.freeze()
            await hasty.end(ending(turns[2]))
            assert len(caplog.messages) == 1
            assert "stored on too few replicas" in caplog.text
            replica.thaw()


async def test_databases_of_one_redis_share_no_channels(redis_server: RedisProcess) -> None:
    """Law 12: gateways that use different databases of one Redis receive nothing from each other."""
    other_url = redis_server.url.replace("/0", "/1")
    async with redis_store(redis_server.url) as one, redis_store(other_url) as two, listening(two) as received:
        await two.subscribe("turn:ann:t1")
        turn = await running(one, stateless_turn())
        assert await two.append([Append("ann", "t1", turn.epoch, 1, 1, b"x")]) == [Appended("missing", 0)]
        await one.append([piece(turn, 1, 1)])
        await two.publish("turn:ann:t1", b"own")
        assert await received.next() == ("turn:ann:t1", b"own")


async def test_an_eviction_policy_logs_a_warning(redis_server: RedisProcess, caplog: pytest.LogCaptureFixture) -> None:
    """The warning is logged once, when the store is opened; without the permission for INFO there is none."""
    async with redis_store(redis_server.url):
        assert caplog.messages == []
    redis_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with redis_store(redis_server.url):
        assert len(caplog.messages) == 1
        assert "noeviction" in caplog.text
        assert "allkeys-lru" in caplog.text
    redis_server.execute("ACL", "SETUSER", "strict", "on", ">s3cret", "~*", "&*", "+@all", "-info")
    async with redis_store(redis_server.url.replace("//", "//strict:s3cret@")) as store:
        await store.ping()
    assert len(caplog.messages) == 1
