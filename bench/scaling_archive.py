"""What an archive needs: the space and the CPU of a turn in PostgreSQL, rows read by each call, and cold conversations."""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import jwt
from msgspec.structs import replace

from bench.client import Socket, Tally, close_sockets, open_sockets
from bench.harness import FAST, gateway, postgres, quantile, redis, start_fields, upstream
from bench.process import tree_cpu_s
from bench.scenarios import NS_PER_MS, Figures
from bench.texts import prose
from gateway.protocol.ids import new_id, now_ms
from store.archive.records import (
    ArchivedConversation,
    ArchivedMessage,
    ArchivedTurn,
    OutboxBatch,
    OutboxEntry,
    OutboxItem,
)
from store.archive.sql_archive import SqlArchive
from store.records import DAY_MS
from tests.postgres_process import PostgresProcess

SECRET = secrets.token_hex(32)
AUTH = {
    "TURNWIRE_AUTH": "jwt",
    "TURNWIRE_JWT_SECRET": SECRET,
    "TURNWIRE_ADDRESS_CONNECTIONS": "0",
    "TURNWIRE_USER_REQUESTS_PER_S": "0",
}
MODEL = f"openai/prose-{FAST}-350"
HEAVY, MEDIUM = "heavy", "medium"
"""A user with a tenth of all conversations, and one with a hundredth. The gateway without an archive also has the latter."""
USERS_AT_ONCE = 20
"""The users of a transaction, as at 200 turns per second."""
CALL_S = 120.0
"""How long a call may take: the machine may be busy."""
PAUSE_S = 0.15
"""The pause before each timed call, in which the changes of the previous call are archived."""
TABLES = ("users", "conversations", "messages", "turns", "usage_days", "feedback")


def credential(user: str) -> str:
    """Return a token of the user."""
    return jwt.encode({"sub": user, "exp": int(time.time()) + 36_000}, SECRET, "HS256")


def credentials(count: int) -> list[str]:
    """Return the tokens of `count` users."""
    return [credential(f"user{n}") for n in range(count)]


class Sample:
    """A turn that a gateway has archived, from which others are made: with new ids, times and texts."""

    def __init__(self, conversation: ArchivedConversation, messages: list[ArchivedMessage]) -> None:
        self._conversation = conversation
        self._input, self._answer = messages
        self.bodies = [len(message.record.body) for message in messages]

    def turn(self, user: str, at_ms: int) -> tuple[list[OutboxItem], list[OutboxItem]]:
        """Return what the start and what the ending of a new turn in a new conversation store."""
        name, turn, place = new_id("c"), new_id("t"), secrets.token_urlsafe(16)
        asked = self._message(self._input, 60, None, name, place, turn, 1, at_ms)
        answer = self._message(self._answer, 350, asked.record.id, name, place, turn, 2, at_ms + 7000)
        sample = self._conversation
        record = replace(
            sample.record,
            id=name,
            user=user,
            title=prose(8),
            head=answer.record.id,
            created_ms=at_ms,
            updated_ms=at_ms + 7000,
        )
        ended = replace(sample, record=record, incarnation=place)
        begun = replace(ended, record=replace(record, messages=1, head=asked.record.id, revision=1))
        usage = ArchivedTurn(
            turn=turn,
            conversation=name,
            incarnation=place,
            model=MODEL,
            status="completed",
            ended_ms=at_ms + 7000,
            usage=record.usage,
        )
        return [begun, asked], [ended, answer, usage]

    @staticmethod
    def _message(
        sample: ArchivedMessage,
        tokens: int,
        parent: str | None,
        conversation: str,
        place: str,
        turn: str,
        number: int,
        at_ms: int,
    ) -> ArchivedMessage:
        body = json.loads(sample.record.body)
        body["parts"][0]["text"] = prose(tokens)
        encoded = json.dumps(body, separators=(",", ":")).encode()
        record = replace(sample.record, id=new_id("m"), parent=parent, turn=turn, created_ms=at_ms, body=encoded)
        return replace(sample, record=record, conversation=conversation, incarnation=place, number=number)


class Writer:
    """Writes turns as the gateway's drain does: the start and the ending of each in different transactions."""

    def __init__(self, archive: SqlArchive, sample: Sample) -> None:
        self._archive, self._sample = archive, sample
        self._changes: dict[str, int] = {}
        self.turns = 0

    async def write(self, users: list[str], at_ms: int) -> None:
        """Write a turn of each of these users. A user may be named more than once."""
        starts: dict[str, list[OutboxItem]] = {}
        ends: dict[str, list[OutboxItem]] = {}
        for user in users:
            start, end = self._sample.turn(user, at_ms + random.randrange(DAY_MS))
            starts.setdefault(user, []).extend(start)
            ends.setdefault(user, []).extend(end)
        for items in (starts, ends):
            await self._archive.apply([self._batch(user, mine) for user, mine in items.items()])
        self.turns += len(users)

    def _batch(self, user: str, items: list[OutboxItem]) -> OutboxBatch:
        entries = []
        for item in items:
            change = self._changes[user] = self._changes.get(user, 0) + 1
            changed = replace(item, change=change) if isinstance(item, ArchivedConversation) else item
            entries.append(OutboxEntry(member=b"m%d" % change, change=change, item=changed))
        return OutboxBatch(user=user, entries=tuple(entries))


async def archive(*, small: bool) -> Figures:
    """Space and CPU of a turn in PostgreSQL, the rows that a call reads, and the time of calls for cold conversations."""
    users, rounds, hot = (40, 2, 10) if small else (1000, 100, 1000)
    samples = 5 if small else 200
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(upstream())
        url, server = stack.enter_context(postgres())
        database = url.rpartition("/")[2]
        environment = AUTH | {"TURNWIRE_ARCHIVE": url, "TURNWIRE_ARCHIVE_MIGRATE": "1"}
        archive = SqlArchive(url, migrate=True, call_s=CALL_S)
        await archive.open()
        stack.push_async_callback(archive.close)
        stores = [await stack.enter_async_context(redis()) for _ in range(2)]
        cold = await stack.enter_async_context(gateway(provider, store=stores[0], environment=environment))
        warm = await stack.enter_async_context(gateway(provider, store=stores[1], environment=AUTH))
        sample = await _sample(cold.url, archive)
        writer = Writer(archive, sample)
        figures: Figures = {"body_bytes": sample.bodies}
        figures["written"] = await _load(writer, server, database, users, rounds)
        figures["space"] = _space(server, database, writer.turns)
        figures["plans"] = await _plans(url, server, database)
        await _hot_conversations(warm.url, hot)
        figures["ms"] = await _calls(cold.url, warm.url, archive, samples)
    return figures


async def _sample(url: str, archive: SqlArchive) -> Sample:
    (socket,) = await open_sockets(url, 1, Tally(), tokens=[credential("sample")])
    ended = socket.ending("sample")
    _, started = await socket.ask("turn.start", turn="sample", model=MODEL, input=prose(60))
    await ended
    await close_sockets([socket])
    async with asyncio.timeout(30):
        while True:
            messages, _ = await archive.newest("sample", started["conversation"], 10, 2**30)
            conversation = await archive.conversation("sample", started["conversation"])
            if conversation is not None and len(messages) == 2 and conversation.record.usage.output_tokens:
                return Sample(conversation, messages)
            await asyncio.sleep(0.1)


async def _load(writer: Writer, server: PostgresProcess, database: str, users: int, rounds: int) -> Figures:
    """Write a turn of each user in each round, and a tenth as many turns of `HEAVY`. The times of two rounds are days apart."""
    names = [f"user{n}" for n in range(users)]
    before, began, pid = _wal(server, database), tree_cpu_s(server.pid), server.pid
    for number in range(rounds):
        at_ms = now_ms() - (rounds - number) * 3 * DAY_MS
        random.shuffle(names)
        for start in range(0, users, USERS_AT_ONCE):
            more = [HEAVY] * (USERS_AT_ONCE // 10) + [MEDIUM] * (start // USERS_AT_ONCE % 5 == 0)
            await writer.write(names[start : start + USERS_AT_ONCE] + more, at_ms)
        if number == 0:
            server.execute("ANALYZE", database)  # autovacuum does it within a minute
        print(f"{writer.turns} turns written", file=sys.stderr, flush=True)
    spent = tree_cpu_s(pid) - began
    after = _wal(server, database)
    size, images = (b - a for a, b in zip(before, after, strict=True))
    return {
        "turns": writer.turns,
        "postgres_ms_per_turn": round(1000 * spent / writer.turns, 3),
        "wal_bytes_per_turn": round(size / writer.turns),
        "of these whole pages": images,
    }


def _wal(server: PostgresProcess, database: str) -> tuple[int, int]:
    ((size, images),) = server.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), wal_fpi FROM pg_stat_wal", database
    )
    return int(size), int(images)


def _space(server: PostgresProcess, database: str, turns: int) -> Figures:
    """Return the bytes of each table and index after a VACUUM, by row and by turn."""
    began = tree_cpu_s(server.pid)
    server.execute("VACUUM ANALYZE", database)
    vacuum_s = tree_cpu_s(server.pid) - began
    tables: Figures = {}
    for name in TABLES:
        ((rows, size, heap, toast, indexes),) = server.execute(
            f"SELECT (SELECT count(*) FROM {name}), pg_total_relation_size('{name}'), pg_relation_size('{name}'),"
            f" COALESCE((SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE oid = '{name}'::regclass"
            f" AND reltoastrelid <> 0), 0), pg_indexes_size('{name}')",
            database,
        )
        if int(rows):
            tables[name] = {
                "rows": int(rows),
                "bytes_per_row": round(int(size) / int(rows)),
                "table": round(int(heap) / int(rows)),
                "toast": round(int(toast) / int(rows)),
                "indexes": round(int(indexes) / int(rows)),
            }
    by_index = {
        index: round(int(size_bytes) / turns)
        for index, size_bytes in server.execute(
            "SELECT indexrelname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes ORDER BY 2 DESC", database
        )
    }
    ((whole,),) = server.execute("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables", database)
    return {
        "bytes_per_turn": round(int(whole) / turns),
        "tables": tables,
        "index_bytes_per_turn": by_index,
        "vacuum_ms_per_turn": round(1000 * vacuum_s / turns, 3),
    }


async def _plans(url: str, server: PostgresProcess, database: str) -> Figures:
    """Return what PostgreSQL reads for each call of a user with a tenth of all conversations."""
    for name, value in {
        "session_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_analyze": "on",
        "auto_explain.log_buffers": "on",
        "auto_explain.log_format": "json",
    }.items():
        server.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")
    archive = SqlArchive(url, call_s=CALL_S)
    await archive.open()
    page, _ = await archive.conversations(HEAVY, 200, None)
    last = page[-1]
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "list": lambda: archive.conversations(HEAVY, 50, None),
        "list, a later page": lambda: archive.conversations(HEAVY, 50, last.id),
        "open": lambda: archive.messages(HEAVY, last.id, 100, None, None),
        "continue": lambda: archive.branch(HEAVY, last.id, last.head or "", 2**21, 500),
        "search, a usual word": lambda: archive.search(HEAVY, "conversation", 50, None),
        "search, rare words": lambda: archive.search(HEAVY, "certificate nginx", 50, None),
        "usage": lambda: archive.usage(HEAVY, None, None),
    }
    plans: Figures = {}
    for name, call in calls.items():
        await call()
        start = server.log.stat().st_size
        await call()
        plans[name] = read_plans(server.log.read_bytes()[start:].decode())
    await archive.close()
    server.execute(f"ALTER DATABASE {database} RESET ALL")
    return plans


def read_plans(log: str) -> Figures:
    """Return what the logged plans have read."""
    total: Figures = {"rows": 0, "pages": 0, "indexes": [], "whole tables": []}

    def visit(node: dict[str, Any]) -> None:
        if "Relation Name" in node or "Index Name" in node:
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            if node["Node Type"] != "Bitmap Heap Scan" or removed:
                total["rows"] += round((node["Actual Rows"] + removed) * node["Actual Loops"])
            if node["Node Type"] == "Seq Scan":
                total["whole tables"].append(node["Relation Name"])
            if "Index Name" in node and node["Index Name"] not in total["indexes"]:
                total["indexes"].append(node["Index Name"])
        for child in node.get("Plans", []):
            visit(child)

    for found in re.findall(r"plan:\n((?:\t.*\n)+)", log):
        plan = json.loads(found)["Plan"]
        total["pages"] += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        visit(plan)
    return total


async def _hot_conversations(url: str, count: int) -> None:
    sockets = await open_sockets(url, 4, Tally(), tokens=[credential(MEDIUM)] * 4)

    async def some(socket: Socket) -> None:
        for _ in range(count // len(sockets)):
            turn = new_id("t")
            ended = socket.ending(turn)
            await socket.ask("turn.start", turn=turn, model=MODEL, input=prose(60))
            await ended

    await asyncio.gather(*map(some, sockets))
    await close_sockets(sockets)


async def _calls(cold_url: str, warm_url: str, archive: SqlArchive, samples: int) -> Figures:
    """Return the times of calls, each in pairs with the call to which it is compared."""
    page: list[Any] = []
    more = True
    while more and len(page) < samples + 3:
        found, more = await archive.conversations(HEAVY, 200, page[-1].id if page else None)
        page += found
    took: dict[str, list[float]] = {}

    async def timed(name: str, work: Awaitable[Any]) -> Any:
        await asyncio.sleep(PAUSE_S)
        began = time.monotonic_ns()
        result = await work
        took.setdefault(name, []).append((time.monotonic_ns() - began) / NS_PER_MS)
        return result

    async with aiohttp.ClientSession() as http:

        async def get(url: str, user: str, path: str) -> None:
            async with http.get(f"{url}{path}", headers={"authorization": f"Bearer {credential(user)}"}) as answer:
                await answer.read()
                answer.raise_for_status()

        (socket,) = await open_sockets(cold_url, 1, Tally(), tokens=[credential(HEAVY)])
        for number, conversation in enumerate(page[: samples + 3]):
            if number == 3:
                took.clear()  # the first calls load what is loaded once
            path = f"/v1/conversations/{conversation.id}/messages"
            await timed("open, cold", get(cold_url, HEAVY, path))
            for state in ("cold", "hot"):
                (ended,) = await timed(f"continue, {state}", _first_token(socket, conversation.id))
                await ended
            await timed("open, hot", get(cold_url, HEAVY, path))
        await close_sockets([socket])
        search = "/v1/conversations?query=certificate+nginx"
        for what, path in (("list", "/v1/conversations"), ("search", search)):
            for _ in range(samples):
                await timed(f"{what} of {MEDIUM}, Redis alone", get(warm_url, MEDIUM, path))
                await timed(f"{what} of {MEDIUM}, archive", get(cold_url, MEDIUM, path))
                await timed(f"{what} of {HEAVY}, archive", get(cold_url, HEAVY, path))
    return {
        name: {f"p{percent}": round(quantile(times, percent / 100), 2) for percent in (10, 50, 95)}
        for name, times in took.items()
    }


async def _first_token(socket: Socket, conversation: str) -> list[asyncio.Future[Any]]:
    """Continue a conversation. Return at the first token, with the ending to wait for."""
    turn = new_id("t")
    first, ended = socket.first_token(turn), socket.ending(turn)
    socket.send({"type": "turn.start", "conversation": conversation, **start_fields(turn, FAST, 1)})
    await first
    return [ended]
