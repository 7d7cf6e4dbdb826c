"""The records, turns and waits that the tests of stores share."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from store.api import Store
from store.errors import Limited, NotFound
from store.records import (
    Append,
    Change,
    ConversationRecord,
    Counters,
    EndedTurn,
    LogEntry,
    MessageRecord,
    NewTurn,
    TurnRecord,
)
from tests.examples import examples

OpenStore = Callable[[], Awaitable[Store]]

NOW = 1_795_247_464_000
HOUR = 3_600_000
LONG_MS = 60_000
SHORT_MS = 60
DEADLINE_S = 5
numbers = itertools.count(1)

in_many_examples = settings(
    max_examples=examples(10),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


def conversation(name: str = "c1", user: str = "ann", at: int = NOW, **fields: Any) -> ConversationRecord:
    """Return the record of a new conversation."""
    blank: dict[str, Any] = {"title": "", "system": None, "model": None, "metadata": b"{}", "head": None}
    return ConversationRecord(id=name, user=user, revision=0, created_ms=at, updated_ms=at, **{**blank, **fields})


def message(name: str, **fields: Any) -> MessageRecord:
    """Return a message, by default one of the user."""
    return MessageRecord(
        **{"id": name, "parent": None, "role": "user", "created_ms": NOW, "body": name.encode(), **fields}
    )


def new_turn(turn: str = "t1", user: str = "ann", **fields: Any) -> NewTurn:
    """Return a new turn in conversation `c1` that instance `one` owns; the ids of its messages begin with its id."""
    common: dict[str, Any] = {
        "owner": "one",
        "lease_ms": LONG_MS,
        "digest": b"digest",
        "request": b"{}",
        "epoch": NOW,
        "message": f"{turn}.answer",
        "stateless": False,
        "conversation": "c1",
        "new_conversation": None,
        "title": "A title",
        "input": message(f"{turn}.question", turn=turn),
        "parent": None,
        "on_busy": "parallel",
        "model": "demo",
        "now_ms": NOW + next(numbers),
    }
    return NewTurn(user=user, turn=turn, **{**common, **fields})


def stateless_turn(turn: str = "t1", user: str = "ann", **fields: Any) -> NewTurn:
    """Return a new turn without a conversation."""
    return new_turn(turn, user, stateless=True, conversation=None, input=None, **fields)


def piece(turn: TurnRecord, first: int, last: int, **fields: Any) -> Append:
    """Return an append of a turn's events `first` to `last`, by default in the turn's epoch."""
    epoch = fields.pop("epoch", turn.epoch)
    payload = fields.pop("payload", f"{epoch}:{first}-{last}".encode())
    return Append(turn.user, turn.turn, epoch, first, last, payload)


def entry(append: Append) -> LogEntry:
    """Return the log entry that an append creates."""
    return LogEntry(append.epoch, append.first, append.last, append.payload)


def ending(turn: TurnRecord, **fields: Any) -> EndedTurn:
    """Return the ending of a completed turn; its events continue the turn's log up to seq 9."""
    common: dict[str, Any] = {
        "epoch": turn.epoch,
        "status": "completed",
        "events": piece(turn, turn.seq + 1, 9, epoch=fields.get("epoch", turn.epoch)),
        "ending": b"the ending",
        "answer": message(turn.message, parent=turn.parent, role="assistant", turn=turn.turn),
        "usage": Counters(1, 2, 3, 4, 5, 6),
        "now_ms": NOW + next(numbers),
    }
    return EndedTurn(user=turn.user, turn=turn.turn, **{**common, **fields})


def body(text: str) -> bytes:
    """Return the body of a message with this text, as the gateway stores it."""
    encoded = json.dumps(
        {"parts": [{"kind": "image", "media_type": "image/png", "data": "QQ=="}, {"kind": "text", "text": text}]}
    )
    return encoded.encode()


async def say(store: Store, name: str, text: str, user: str = "ann", parent: str | None = None) -> str:
    """Store a message with this text in the conversation `name`. Return the id of the message."""
    turn = f"s{next(numbers)}"
    said = message(f"{turn}.said", body=body(text), turn=turn)
    await run(store, new_turn(turn, user, conversation=name, input=said, parent=parent))
    return said.id


def new_user() -> str:
    """Return the id of a user that no example has used."""
    return f"user{next(numbers)}"


async def run(store: Store, new: NewTurn, **fields: Any) -> EndedTurn:
    """Accept a turn and end it."""
    ended = ending((await store.accept(new)).turn, **fields)
    await store.end(ended)
    return ended


async def running(store: Store, new: NewTurn | None = None) -> TurnRecord:
    """Accept a turn, by default a stateless turn of ann, and return its record."""
    return (await store.accept(new or stateless_turn())).turn


async def append(store: Store, *appends: Append) -> list[str]:
    """Append to logs, and return the outcomes."""
    return [appended.outcome for appended in await store.append(list(appends))]


async def limited(answer: Awaitable[object]) -> tuple[str, int | None]:
    """Return the limit that the call exceeds, and after how many ms a retry is possible."""
    with pytest.raises(Limited) as refused:
        await answer
    return refused.value.limit, refused.value.retry_after_ms


async def missing(answer: Awaitable[object]) -> str:
    """Return the field that the store's `NotFound` names."""
    with pytest.raises(NotFound) as raised:
        await answer
    return raised.value.field


async def eventually(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Call `condition` until its result is true, and return the result. Raises `TimeoutError`."""
    async with asyncio.timeout(DEADLINE_S):
        while not (answer := await condition()):
            await asyncio.sleep(0.01)
        return answer


class Received:
    """The deliveries of a store: (channel, payload) in order. `reconnects` counts the calls of `on_reconnect`."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.reconnects = 0

    def deliver(self, channel: str, payload: bytes) -> None:
        """Record a delivery."""
        self.queue.put_nowait((channel, payload))

    def reconnected(self) -> None:
        """Count a call of `on_reconnect`."""
        self.reconnects += 1

    async def next(self) -> tuple[str, bytes]:
        """Return the next delivery. Raises `TimeoutError`."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.queue.get()


@asynccontextmanager
async def listening(store: Store) -> AsyncIterator[Received]:
    """Run the store's pub/sub until the end of the block."""
    received = Received()
    task = asyncio.get_running_loop().create_task(store.run_pubsub(received.deliver, received.reconnected))
    try:
        yield received
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "run_pubsub ended before it was cancelled"


READS_AND_WRITES: dict[str, tuple[Callable[[Store, str], Awaitable[object]], str]] = {
    "conversation": (lambda store, user: store.conversation(user, "c1"), "conversation"),
    "messages": (lambda store, user: store.messages(user, "c1", 10, None), "conversation"),
    "active": (lambda store, user: store.active(user, "c1"), "conversation"),
    "update": (lambda store, user: store.update_conversation(user, "c1", Change(title="x"), NOW), "conversation"),
    "clear": (lambda store, user: store.clear_conversation(user, "c1", NOW), "conversation"),
    "delete": (lambda store, user: store.delete_conversation(user, "c1"), "conversation"),
    "usage": (lambda store, user: store.usage(user, "c1", None), "conversation"),
    "message": (lambda store, user: store.message(user, "t1.answer"), "message"),
    "feedback": (lambda store, user: store.put_feedback(user, "t1.answer", "up", None, NOW), "message"),
    "branch": (lambda store, user: store.branch(user, "c1", "t1.answer"), "parent"),
    "turn": (lambda store, user: store.turn(user, "t1"), "turn"),
    "claim": (lambda store, user: store.claim(user, "t1", "two", NOW, LONG_MS, force=True), "turn"),
    "request_cancel": (lambda store, user: store.request_cancel(user, "t1", b"stop"), "turn"),
    "list": (lambda store, user: store.conversations(user, 10, "c1"), "before"),
}
"""Calls for a user with an id that belongs to ann, and the field that `NotFound` names if the user is another one."""


async def can_acquire(store: Store, holder: str, key: str) -> bool:
    return (await store.acquire_permits(holder, [(key, 1)], LONG_MS))[0]


async def is_false(answer: Awaitable[object]) -> bool:
    return not await answer


async def are_expired(store: Store, *keys: str) -> bool:
    return not any(value is not None for value in await store.get_ephemeral(list(keys)))
