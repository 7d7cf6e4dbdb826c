"""Two instances, while their real Redis, their real PostgreSQL or both are away or lose their data."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway import retention
from store.records import DAY_MS
from tests.archive_oracle import ArchiveServer, archive_server, until_drained
from tests.client import Client, RequestFailed, client
from tests.credentials import bearer, token
from tests.in_loop_server import serving
from tests.in_time import check_in_time, checks_time_limit, within
from tests.metrics import value
from tests.redis_process import RedisProcess, redis_process
from tests.resilient import headers_of
from tests.run_queue import RunQueue
from tests.upstream import chat
from tests.world import WITH_USERS, World, client_of, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ANN, BOB = "ann", "bob"
TURNS = 20
QUICK = {"demo": {"text": "Yes.", "rate": 0}}
RATE = 10
GAP_S = 0.5
"""The longest pause between two tokens of a turn, without the time in which the processes waited for a core."""
HANGS_S, REFUSES_S = 12, 6


@asynccontextmanager
async def archived(folder: Path, **settings: str) -> AsyncIterator[tuple[World, ArchiveServer]]:
    """Run two instances with a Redis and a PostgreSQL."""
    async with archive_server() as archive:
        more = {**WITH_USERS, "TURNWIRE_METRICS": "public", "TURNWIRE_USER_RUNNING_TURNS": "0", **settings}
        async with world(folder, archive=archive, settings=more) as w:
            yield w, archive


def connect(w: World, number: int, user: str = ANN) -> Any:
    """Connect to an instance."""
    return client(w.instances[number].ws_url, additional_headers=headers_of(user))


def texts(messages: list[dict[str, Any]]) -> list[str]:
    """Return the texts of messages."""
    return ["".join(part["text"] for part in message["parts"]) for message in messages]


async def drained(w: World, *users: str) -> None:
    """Wait until the archive has everything of the users."""
    await until_drained(w.redis.execute, users or (ANN,))


async def readiness(w: World) -> list[tuple[int, str]]:
    """Return the status of `/ready` and the state of the archive there, and check that the metric says the same."""
    found = []
    async with httpx2.AsyncClient() as http:
        for one in w.instances:
            before = await _metric(http, one.url)
            got = await http.get(f"{one.url}/ready")
            # The state may change between two of these requests.
            assert float(got.json()["archive"] == "degraded") in {before, await _metric(http, one.url)}
            found.append((got.status_code, got.json()["archive"]))
    return found


async def _metric(http: httpx2.AsyncClient, url: str) -> float:
    return value((await http.get(f"{url}/metrics")).text, "turnwire_archive_degraded")


async def until_ready_says(w: World, state: str) -> None:
    """Wait until every instance says that the archive is in this state, and is ready all the same."""
    while True:
        found = await readiness(w)
        assert {status for status, _ in found} == {200}
        if {said for _, said in found} == {state}:
            return
        await asyncio.sleep(0.3)


class Arrivals:
    """The moments in which a client receives the tokens of its turns."""

    def __init__(self, w: World) -> None:
        self._queue = RunQueue(os.getpid(), w.redis.pid, *(one.process.pid for one in w.instances))
        self._last: dict[tuple[Client, str], float] = {}
        self._gaps: list[tuple[float, float]] = []

    def watch(self, c: Client) -> None:
        """Watch what the client receives from now on."""
        take = c._receive

        def stamped(frame: dict[str, Any]) -> None:
            if frame["type"] == "turn.delta":
                now = self._queue.sample()
                self._gaps.append((self._last.get((c, frame["turn"]), now), now))
                self._last[c, frame["turn"]] = now
            take(frame)

        c._receive = stamped  # type: ignore[method-assign]

    def longest_s(self) -> float:
        """Return the longest pause between two tokens of a turn."""
        longest = max(end - begin - self._queue.waited_s(begin, end) for begin, end in self._gaps)
        self._queue.close()
        return longest


async def test_an_instance_starts_while_sql_is_away(tmp_path: Path) -> None:
    """It is ready, and says that the archive is degraded; turns run and are listed. When SQL is there, its schema is created,
    and it has everything."""
    async with archive_server() as archive:
        archive.proxy.refuse()
        async with world(tmp_path, 1, archive=archive, settings=WITH_USERS | {"TURNWIRE_METRICS": "public"}) as w:
            await until_ready_says(w, "degraded")
            async with client_of(w, 0, user=ANN) as ann:
                await w.start(ann, "t", rate=0, tokens=10)
                await w.check(ann, "t")
                assert ann.now is not None
                assert len((await ann.now.request("conversation.list"))["conversations"]) == 1
                tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'turns'"
                assert archive.postgres.execute(tables, archive.database) == [["0"]]
                archive.proxy.restore()
                await until_ready_says(w, "ok")
                await w.check_archive()
                assert archive.postgres.execute(tables, archive.database) == [["1"]]


@checks_time_limit
async def test_postgres_is_away_under_live_turns(tmp_path: Path) -> None:
    """PostgreSQL hangs for some seconds and then refuses connections, under 20 live turns of two users: no turn fails, no
    token is late, new turns start, end and are listed, `/ready` and the metric say that the archive is degraded, and
    everything is there afterwards."""
    async with archived(tmp_path) as (w, archive), client_of(w, 0, user=ANN) as ann, client_of(w, 1, user=BOB) as bob:
        tokens = RATE * (HANGS_S + REFUSES_S + 3)
        for n in range(TURNS):
            await w.start((ann, bob)[n % 2], f"t{n}", rate=RATE, tokens=tokens if n % 4 < 2 else tokens // 2)
        arrivals = Arrivals(w)
        for who in (ann, bob):
            assert who.now is not None
            arrivals.watch(who.now)
        archive.proxy.hang()
        await w.start(ann, "short", rate=100, tokens=20)
        with within(10):
            await w.check(ann, "short")
        async with asyncio.timeout(HANGS_S + 5):
            await until_ready_says(w, "degraded")
        archive.proxy.refuse()
        await asyncio.sleep(REFUSES_S)
        await w.start(bob, "short", rate=100, tokens=20)
        with within(10):
            await w.check(bob, "short")
            async with connect(w, 0, BOB) as c:
                listed = (await c.request("conversation.list"))["conversations"]
        assert len(listed) == TURNS // 2 + 1
        assert await readiness(w) == [(200, "degraded")] * 2
        archive.proxy.restore()
        async with asyncio.timeout(10):
            await until_ready_says(w, "ok")
        for n in range(TURNS):
            await w.check((ann, bob)[n % 2], f"t{n}")
        longest_s = arrivals.longest_s()
        await w.check_archive()
        assert (ann.connects, bob.connects) == (1, 1)
        for who in (ann, bob):
            assert {view.resets for view in who.views.values()} == {0}
        check_in_time(longest_s, GAP_S)


async def test_a_flushed_redis_has_the_whole_history_again(tmp_path: Path) -> None:
    """Redis is flushed under live turns, which complete. Each conversation is whole afterwards through any instance: opened,
    listed, searched, continued, branched, attached, rated, deleted."""
    async with archived(tmp_path) as (w, _), client_of(w, 0, user=ANN) as ann:
        for n in range(4):
            await w.start(ann, f"old{n}", conversation=f"talk{n % 2}", rate=500, tokens=20)
            await w.check(ann, f"old{n}")
        await drained(w)
        for n in range(10):
            await w.start(ann, f"live{n}", conversation=None if n % 2 else "talk0", rate=50, tokens=150)
        await asyncio.sleep(1)
        w.flush()
        for n in range(10):
            await w.check(ann, f"live{n}")
        await w.check_archive()
        for number in (0, 1):
            await _check_history(w, number)


def _branch(messages: list[dict[str, Any]], last: str) -> list[dict[str, Any]]:
    """Return the messages from the first one to `last`."""
    by_id = {message["id"]: message for message in messages}
    branch = [by_id[last]]
    while (parent := branch[0].get("parent")) is not None:
        branch.insert(0, by_id[parent])
    return branch


async def _check_history(w: World, number: int) -> None:
    """Read, continue, branch, attach, rate and delete conversations through an instance. Redis has forgotten them each time."""
    other = 1 - number
    async with connect(w, number) as c, connect(w, other) as d:

        async def cold() -> None:
            await drained(w)
            w.flush()

        await cold()
        opened = await c.request("conversation.get", conversation="talk1")
        page = (await c.request("conversation.messages", conversation="talk1"))["messages"]
        assert (opened["messages"], len(page)) == (4 + 4 * number, 4 + 4 * number)
        assert texts(page)[0] == "About old1 of canary-of-ann."
        await cold()
        listed = (await c.request("conversation.list"))["conversations"]
        assert len(listed) == 7 + number
        found = (await c.request("conversation.list", query="old3"))["conversations"]
        assert [one["id"] for one in found] == ["talk1"]
        await cold()
        w.upstream.play(chat("Yes."), chat("No."))
        await c.request("turn.start", turn=f"next{number}", conversation="talk1", input="And now?", model="openai/m")
        assert (await c.ending(f"next{number}"))["type"] == "turn.completed"
        asked = [message["content"] for message in w.upstream.requests[-1].body["messages"]]
        assert asked == [*texts(_branch(page, opened["head"])), "And now?"]
        await cold()
        await c.request(
            *("turn.start",),
            turn=f"branch{number}",
            conversation="talk1",
            parent=page[1]["id"],
            input="Or?",
            model="openai/m",
        )
        await c.ending(f"branch{number}")
        asked = [message["content"] for message in w.upstream.requests[-1].body["messages"]]
        assert asked == [*texts(page)[:2], "Or?"]
        await cold()
        attached = await d.request("conversation.attach", conversation="talk1")
        assert attached is not None
        await cold()
        await c.request("feedback.put", message=page[3]["id"], rating="down", comment=f"by {number}")
        await cold()
        rated = (await d.request("conversation.messages", conversation="talk1"))["messages"]
        assert [one["comment"] for one in rated if one["id"] == page[3]["id"]] == [f"by {number}"]
        await c.request("conversation.create", conversation=f"gone{number}", title="Gone soon")
        await c.request("conversation.create", conversation=f"stays{number}", title="Stays")
        await cold()
        await c.request("conversation.delete", conversation=f"gone{number}")
        for one in (c, d):
            with pytest.raises(RequestFailed) as refused:
                await one.request("conversation.get", conversation=f"gone{number}")
            assert refused.value.code == "not_found"
        await cold()
        with pytest.raises(RequestFailed) as refused:
            await d.request("conversation.messages", conversation=f"gone{number}")
        assert refused.value.code == "not_found"


async def test_both_are_killed(tmp_path: Path) -> None:
    """PostgreSQL is killed, and Redis loses its data. Live turns complete, and new ones start. Requests for what only the
    archive has are refused until PostgreSQL is back. Then everything that was archived or live is there."""
    async with archived(tmp_path) as (w, archive), client_of(w, 0, user=ANN) as ann:
        await w.start(ann, "old", conversation="talk", rate=500, tokens=20)
        await w.check(ann, "old")
        await drained(w)
        for n in range(10):
            await w.start(ann, f"live{n}", rate=50, tokens=300)
        await drained(w)
        await asyncio.to_thread(archive.postgres.kill)
        w.lose_data(archive_is_away=True)
        await asyncio.sleep(1)
        async with connect(w, 1) as c:
            for kind in ("conversation.get", "conversation.messages"):
                with pytest.raises(RequestFailed) as refused:
                    await c.request(kind, conversation="talk")
                assert (refused.value.code, refused.value.error["retryable"]) == ("store_unavailable", True)
            with pytest.raises(RequestFailed) as refused:
                await c.request("turn.start", turn="x", conversation="talk", create=True, input="x")
            assert (refused.value.code, refused.value.error["retryable"]) == ("store_unavailable", True)
        await w.start(ann, "new", rate=500, tokens=20)
        await w.check(ann, "new")
        for n in range(10):
            await w.check(ann, f"live{n}")
        await asyncio.to_thread(archive.postgres.start)
        async with asyncio.timeout(15):
            await until_ready_says(w, "ok")
        await w.check_archive()
        async with connect(w, 1) as c:
            assert len((await c.request("conversation.messages", conversation="talk"))["messages"]) == 2
            assert len((await c.request("conversation.list"))["conversations"]) == 12


async def test_with_sync_an_ending_waits_for_the_archive(tmp_path: Path) -> None:
    """With TURNWIRE_ARCHIVE_SYNC=1, what a client has seen is in PostgreSQL, although Redis loses its data at that moment.
    While PostgreSQL is away, turns stream but don't end, and a deletion isn't confirmed."""
    async with archived(tmp_path, TURNWIRE_ARCHIVE_SYNC="1") as (w, archive), client_of(w, 0, user=ANN) as ann:
        for n in range(5):
            await w.start(ann, f"t{n}", conversation=f"c{n}", rate=500, tokens=20)
            await ann.ending(f"t{n}")
            w.flush()
            rows = [row for row in archive.rows("messages") if row["turn_id"] == f"t{n}"]
            assert sorted(row["role"] for row in rows) == ["assistant", "user"]
            assert f"t{n}" in {row["id"] for row in archive.rows("turns")}
        async with connect(w, 0) as c:
            await c.request("conversation.delete", conversation="c0")
            w.flush()
            assert "c0" not in {row["id"] for row in archive.rows("conversations")}
            await c.request("conversation.get", conversation="c1")
            await c.request("conversation.update", conversation="c1", title="hot")
            await w.start(ann, "waits", rate=100, tokens=50)
            archive.proxy.refuse()
            await asyncio.sleep(2.5)
            view = ann.views["waits"]
            assert len(ann.text("waits")) == len(w._started[ANN, "waits"].text), "all of it was streamed"
            assert view.ended is None
            with pytest.raises(RequestFailed) as refused:
                await c.request("conversation.delete", conversation="c1")
            assert (refused.value.code, refused.value.error["retryable"]) == ("store_unavailable", True)
            archive.proxy.restore()
            await w.check(ann, "waits")
            await drained(w)
            assert "c1" not in {row["id"] for row in archive.rows("conversations")}, (
                "it was deleted, only not confirmed"
            )


async def test_an_instance_is_killed_between_redis_and_postgres(tmp_path: Path) -> None:
    """An instance dies after its turns have ended in Redis, and before PostgreSQL has them: the other one archives each
    of them once."""
    async with archived(tmp_path) as (w, archive), client_of(w, 0, user=ANN) as ann:
        archive.proxy.hang()
        for n in range(5):
            await w.start(ann, f"t{n}", rate=500, tokens=20)
            assert (await ann.ending(f"t{n}"))["type"] == "turn.completed"
        await w.start(ann, "runs", rate=100, tokens=300)
        await asyncio.sleep(0.5)
        assert w.redis.execute("ZCARD", "turnwire:{@ann}:outbox") >= 15
        w.kill(0)
        archive.proxy.restore()
        for n in range(5):
            await w.check(ann, f"t{n}")
        await w.check(ann, "runs")
        await w.check_archive()
        assert len(archive.rows("turns")) == 6


async def test_an_erased_user_is_in_no_place(tmp_path: Path) -> None:
    """After the erasure, neither a key or value in Redis, nor the dump of PostgreSQL, nor a file of the
    gateways or a line of their logs names the user; another user keeps everything."""
    user = "canary|user/1"
    settings = {"TURNWIRE_LOG_USERS": "hash", "TURNWIRE_LOG_LEVEL": "debug"}
    async with archived(tmp_path, **settings) as (w, archive):
        async with connect(w, 0, user) as c, connect(w, 1, BOB) as bob:
            await bob.request("turn.start", turn="t1", input="something of bob")
            await bob.ending("t1")
            for n in range(3):
                await c.request("turn.start", turn=f"t{n}", input=f"a canaryword {n}", metadata={"k": "canary"})
                ended = await c.ending(f"t{n}")
            await c.request("feedback.put", message=ended["message"], rating="up", comment="canarycomment")
            await drained(w, user, BOB)
            assert "canary" in await asyncio.to_thread(archive.postgres.dump, archive.database)
            await c.request("turn.start", turn="live", input="canary", params={"demo": {"rate": 20, "tokens": 5000}})
            path = f"/v1/users/{user.replace('|', '%7C').replace('/', '%2F')}"
            async with httpx2.AsyncClient(base_url=w.instances[1].url) as http:
                erased = await http.delete(path, headers=bearer(token("ops", scope="admin")), timeout=30)
            assert (erased.status_code, erased.json()) == (200, {})
            assert (await c.until_closed())[0] == 4403
            await asyncio.sleep(1)
            assert len((await bob.request("conversation.list", query="bob"))["conversations"]) == 1
        dump = await asyncio.to_thread(archive.postgres.dump, archive.database)
        assert "canary" not in dump
        assert "something of bob" in dump
        keys = [key for key in w.redis.keys() if b"canary" in key or b"canary" in w.redis.execute("DUMP", key)]
        assert keys == []
        redis_folder = tmp_path / "redis"
        w.redis.execute("SAVE")
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert redis_folder / "dump.rdb" in files
        assert [path for path in files if b"canary" in path.read_bytes().lower()] == []
    log = "".join(line for one in w.instances for line in one.log)
    assert "user erased" in log
    assert "canary" not in log


async def test_the_sweep_deletes_cold_conversations_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the retention of a conversation is over, it is deleted everywhere, whether Redis still has it (hot) or only the
    archive does (cold). Newer ones stay, cold or hot, and so does the usage of the deleted ones."""
    monkeypatch.setattr(retention, "SWEEP_S", 0.2)
    with redis_process(tmp_path) as redis:
        async with (
            archive_server() as archive,
            serving(store=redis.url, archive=archive.url, archive_migrate=True, retention_days=30) as server,
            client(server.ws_url) as c,
        ):
            ages = {"old_and_cold": 31, "old": 31, "cold": 29, "hot": 0}
            for name in ages:
                await c.request("turn.start", turn=name, conversation=name, create=True, input=name, params=QUICK)
                await c.ending(name)
            await until_drained(redis.execute, ["local"])
            for name, days in ages.items():
                key = b"turnwire:{@local}:conversation:" + name.encode()
                if "cold" in name:
                    forget_conversation(redis, name)
                elif days:
                    changed = int(redis.execute("HGET", key, "updated_ms"))
                    redis.execute("HSET", key, "updated_ms", changed - days * DAY_MS)
                age = f"UPDATE conversations SET updated_at = updated_at - interval '{days} days' WHERE id = '{name}'"
                archive.postgres.execute(age, archive.database)
            while {row["id"] for row in archive.rows("conversations")} != {"cold", "hot"}:
                await asyncio.sleep(0.1)
            assert {row["conversation_id"] for row in archive.rows("messages")} == {"cold", "hot"}
            assert len(archive.rows("turns")) == 4
            assert [key for key in redis.keys() if b"conversation:old" in key or b"messages:old" in key] == []
            listed = (await c.request("conversation.list"))["conversations"]
            assert [one["id"] for one in listed] == ["hot", "cold"]
            for name in ("cold", "hot"):
                found = (await c.request("conversation.messages", conversation=name))["messages"]
                assert texts(found)[0] == name
            for name in ("old_and_cold", "old"):
                with pytest.raises(RequestFailed, match="not_found"):
                    await c.request("conversation.get", conversation=name)


def forget_conversation(redis: RedisProcess, conversation: str) -> None:
    """Delete a conversation and its messages in Redis, as if they had expired."""
    prefix = b"turnwire:{@local}:"
    listed = prefix + b"messages:" + conversation.encode()
    messages = [prefix + b"message:" + message for message in redis.execute("ZRANGE", listed, 0, -1)]
    assert redis.execute("DEL", prefix + b"conversation:" + conversation.encode(), listed, *messages) == 4
