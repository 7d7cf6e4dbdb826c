"""An archive for a `World`: a real PostgreSQL behind a proxy, and the check of what it has at the end of a run."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import redis

from store.redis.keys import user_prefix
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.postgres_process import PostgresProcess, postgres_process
from tests.redis_process import RedisProcess

DRAINED_S = 60.0
PAUSE_MS = 10_000
TOKENS = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens", "cache_write_tokens")
FLUSH = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'turnwire:{@*}:outbox')) do
  local p = string.sub(key, 1, -7)
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local turn = string.sub(member, 1, 2) == 'm:' and redis.call('HGET', p .. 'message:' .. string.sub(member, 3), 'turn')
    found[#found + 1] = {p, member, turn or ''}
  end
end
redis.call('FLUSHALL')
return found
"""
"""Deletes all data of a server, and returns what waited in its outboxes in the same step."""

Key = tuple[str, str]
Row = dict[str, Any]


class Said(NamedTuple):
    """What a client has received of a turn: its prompt, its text, and the type of its ending."""

    prompt: str
    text: str
    ending: str


class Pending(NamedTuple):
    """What waited in outboxes when Redis lost it: the turns and the messages, each with its user, and the conversations."""

    turns: set[Key]
    messages: set[Key]
    conversations: set[Key]


class ArchiveServer:
    """A PostgreSQL with one database for an archive. Gateways reach it at `url`, through `proxy`."""

    def __init__(self, postgres: PostgresProcess, proxy: FaultProxy, database: str) -> None:
        self.postgres = postgres
        self.proxy = proxy
        self.database = database
        self.url = postgres.url(database, port=proxy.port)

    @property
    def settings(self) -> dict[str, str]:
        """The settings of gateways that use it."""
        return {"TURNWIRE_ARCHIVE": self.url, "TURNWIRE_ARCHIVE_MIGRATE": "1"}

    def rows(self, table: str) -> list[Row]:
        """Return all rows of a table."""
        query = f"SELECT coalesce(jsonb_agg(to_jsonb(t) - 'search_terms' - 'search_words'), '[]') FROM {table} AS t"
        found: list[Row] = json.loads(self.postgres.execute(query, self.database)[0][0])
        return found


@asynccontextmanager
async def archive_server() -> AsyncIterator[ArchiveServer]:
    """Start a PostgreSQL with an empty database, and a proxy in front of it. On exit, stop both."""
    with postgres_process() as postgres:
        async with fault_proxy(postgres.port) as proxy:
            yield ArchiveServer(postgres, proxy, postgres.create_database())


def flush(servers: Iterable[RedisProcess]) -> Pending:
    """Delete all data of the masters, and return what waited in their outboxes."""
    return _pending((p, member, turn) for server in servers for p, member, turn in server.execute("EVAL", FLUSH, 0))


def pause_and_read(server: RedisProcess) -> Pending:
    """Let the server delay all writes from now on, and return what waits in its outboxes. The caller must kill it next."""
    server.execute("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
    found = []
    for key in server.execute("KEYS", "turnwire:{@*}:outbox"):
        p = key.removesuffix(b"outbox")
        for member in server.execute("ZRANGE", key, 0, -1):
            turn = server.execute("HGET", p + b"message:" + member[2:], "turn") if member[:2] == b"m:" else None
            found.append((p, member, turn or b""))
    return _pending(found)


def _pending(found: Iterable[tuple[bytes, bytes, bytes]]) -> Pending:
    pending = Pending(set(), set(), set())
    for p, member, turn in found:
        named = re.fullmatch(rb"turnwire:\{@(.*)\}:", p)
        assert named is not None
        user, kind = named[1].decode(), member[:2]
        if kind == b"t:":
            pending.turns.add((user, msgspec.msgpack.decode(member[2:])[0][0]))
        elif kind == b"m:":
            pending.messages.add((user, member[2:].decode()))
            pending.turns.add((user, turn.decode()))
        else:
            pending.conversations.add((user, member[2:].decode()[17:]))
    return pending


async def until_drained(execute: Callable[..., Any], users: Iterable[str]) -> None:
    """Wait until the archive has what is in the outboxes of `users`. Nothing of it may have been refused."""
    async with asyncio.timeout(DRAINED_S):
        for user in users:
            while True:
                try:
                    if execute("ZCARD", user_prefix(user) + b"outbox") == 0:
                        break
                except redis.RedisError:
                    pass
                await asyncio.sleep(0.1)
            aside = execute("HGETALL", user_prefix(user) + b"aside")
            assert not aside, f"the archive refused entries of {user}: {aside}"


def check_archive(
    archive: ArchiveServer,
    said: Mapping[Key, Said],
    started: Mapping[Key, str],
    lost: Pending,
    lost_turns: set[Key],
    *,
    has_counts: bool,
) -> None:
    """Check that the archive has exactly what clients have received: nothing is lost, and nothing is there twice.

    `said`: the turns whose endings clients have received. `started`: the prompts of all turns. `lost`: what waited to be
    archived when Redis lost it. `lost_turns`: the turns that Redis has lost before they ended.
    `has_counts`: Redis and the archive were never away together, so conversations have counted all of their messages.
    """
    messages, turns = archive.rows("messages"), archive.rows("turns")
    by_turn: dict[Key, list[Row]] = defaultdict(list)
    for row in messages:
        by_turn[row["user_id"], row["turn_id"]].append(row)
    assert by_turn.keys() <= started.keys(), "a message of a turn that nobody has started"
    ended = {(row["user_id"], row["id"]): row for row in turns}
    for key, one in said.items():
        _check_turn(key, one, by_turn[key], ended.get(key), may_lack=key in lost.turns)
    for key, rows in by_turn.items():
        if key not in lost_turns:
            assert Counter(row["role"] for row in rows) <= Counter(user=1, assistant=1), f"{key} is there twice"
        for row in rows:
            assert row["role"] != "user" or _text(row) == started[key], f"{key} has the prompt of another turn"
    _check_conversations(archive.rows("conversations"), messages, lost, has_counts=has_counts)
    _check_sums(archive, turns)


def _check_turn(key: Key, said: Said, rows: list[Row], turn: Row | None, *, may_lack: bool) -> None:
    questions = [row for row in rows if row["role"] == "user"]
    answers = [row for row in rows if row["role"] == "assistant"]
    if not may_lack:
        assert questions, f"{key}: the question isn't in the archive: {rows}"
        assert answers, f"{key}: the answer isn't in the archive: {rows}"
        assert turn is not None, f"{key}: the usage isn't in the archive"
    if may_lack:
        # Redis has lost the ending, and an instance that didn't know it may have stored another one.
        assert all(said.text.startswith(_text(answer)) for answer in answers), f"{key}: another text"
        return
    for answer in answers:
        assert _text(answer) == said.text, f"{key}: the archive has {len(_text(answer))} of {len(said.text)} characters"
        assert answer["ended"] == said.ending.removeprefix("turn."), f"{key}: {answer['ended']}, {said.ending}"
        assert not questions or answer["parent_id"] in {row["id"] for row in questions}, f"{key}: another parent"
    assert turn is None or turn["status"] == said.ending.removeprefix("turn."), f"{key}: {turn}, {said.ending}"


def _check_conversations(conversations: list[Row], messages: list[Row], lost: Pending, *, has_counts: bool) -> None:
    in_conversation: dict[Key, list[Row]] = defaultdict(list)
    for row in messages:
        in_conversation[row["user_id"], row["conversation_id"]].append(row)
    for conversation in conversations:
        key = conversation["user_id"], conversation["id"]
        rows = in_conversation[key]
        numbers = Counter(row["number"] for row in rows)
        assert max(numbers.values(), default=1) == 1, f"{key}: two messages have one number: {numbers}"
        ids = {row["id"] for row in rows}
        for row in rows:
            known = row["parent_id"] is None or row["parent_id"] in ids or (key[0], row["parent_id"]) in lost.messages
            assert known, f"{key}: {row['id']} follows {row['parent_id']}, which isn't there"
        if has_counts and key not in lost.conversations:
            assert conversation["message_count"] == len(rows), f"{key}: {conversation}, but {len(rows)} messages"
            size = len((conversation["title"] + (conversation["system"] or "") + conversation["metadata"]).encode())
            assert conversation["size"] == size + sum(row["size"] for row in rows), f"{key}: another size"


def _check_sums(archive: ArchiveServer, turns: list[Row]) -> None:
    conversations = archive.rows("conversations")
    for user in archive.rows("users"):
        own = [row for row in conversations if row["user_id"] == user["user_id"]]
        assert user["conversation_count"] == len(own), user
        assert user["stored_bytes"] == sum(row["size"] for row in own), user
    counted: Counter[tuple[str, str]] = Counter()
    for row in archive.rows("usage_days"):
        counted.update({(row["user_id"], name): row[name] for name in ("turn_count", *TOKENS)})
    expected: Counter[tuple[str, str]] = Counter()
    for row in turns:
        expected.update({(row["user_id"], name): row[name] for name in TOKENS} | {(row["user_id"], "turn_count"): 1})
    assert counted == expected, "the usage by day isn't the sum of the turns"


def _text(row: Row) -> str:
    return "".join(part.get("text", "") for part in json.loads(row["body"])["parts"] if part["kind"] == "text")
