"""A replica may lag behind its master, so it never says that something doesn't exist, and a user's change can wait until
replicas have it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs

from store.errors import NotFound, StoreError
from store.records import Change, TurnLimits, TurnRecord
from store.redis.store import RedisStore
from tests.redis_process import RedisProcess, redis_server, redis_store
from tests.stored import NOW, conversation, ending, new_turn, piece, running

__all__ = ["redis_server"]

CALLS: dict[str, Callable[[RedisStore], Awaitable[object]]] = {
    "accept": lambda store: store.accept(new_turn("t9", conversation="lost")),
    "accept after a parent": lambda store: store.accept(new_turn("t9", parent="lost")),
    "turn": lambda store: store.turn("ann", "lost"),
    "running": lambda store: store.running("ann", ["t1", "lost"]),
    "active": lambda store: store.active("ann", "lost"),
    "claim": lambda store: store.claim("ann", "lost", "i9", 9, 1000, force=True),
    "request_cancel": lambda store: store.request_cancel("ann", "lost", b"{}"),
    "message": lambda store: store.message("ann", "lost"),
    "branch": lambda store: store.branch("ann", "c1", "lost"),
    "messages": lambda store: store.messages("ann", "lost", 9, None),
    "messages before": lambda store: store.messages("ann", "c1", 9, "lost"),
    "conversation": lambda store: store.conversation("ann", "lost"),
    "conversations": lambda store: store.conversations("ann", 9, "lost"),
    "search": lambda store: store.search("ann", "x", 9, "lost"),
    "update_conversation": lambda store: store.update_conversation("ann", "lost", Change(title="x"), NOW),
    "clear_conversation": lambda store: store.clear_conversation("ann", "lost", NOW),
    "delete_conversation": lambda store: store.delete_conversation("ann", "lost"),
    "put_feedback": lambda store: store.put_feedback("ann", "lost", "up", None, NOW),
    "usage": lambda store: store.usage("ann", "lost", None),
    "erase_user": lambda store: store.erase_user("lost"),
}
DONE = {"running", "erase_user"}
"""The calls that don't raise `NotFound` on a master."""


async def test_a_replica_never_says_that_something_does_not_exist(redis_server: RedisProcess) -> None:
    """Each call that would answer "not found" fails on a replica, and can be repeated. The master answers it."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        await store.append([piece(turn, 1, 1)])
        redis_server.execute("REPLICAOF", "127.0.0.1", 1)
        for name, call in {**CALLS, "end": _end(turn)}.items():
            with pytest.raises(StoreError) as refused:
                await call(store)
            assert type(refused.value) is StoreError, name
            assert "read-only now" in str(refused.value), name
        # What a replica has can be read.
        assert (await store.turn("ann", "t1")).seq == 1
        assert (await store.conversation("ann", "c1")).id == "c1"
        assert [one.id for one in (await store.messages("ann", "c1", 9, None))[0]] == ["t1.question"]
        redis_server.execute("REPLICAOF", "NO", "ONE")
        for name, call in {**CALLS, "end": _end(turn)}.items():
            if name in DONE:
                await call(store)
            else:
                with pytest.raises(NotFound):
                    await call(store)


async def test_what_a_user_changes_waits_for_the_replicas(
    redis_server: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """With `wait_replicas`, each change of a conversation is on replicas before the user hears of it; too few are logged. An
    accepted turn and what a turn restores don't wait, because its owner knows them."""
    limits = TurnLimits(running=1)
    async with redis_store(redis_server.url, wait_replicas=1, wait_ms=1) as store:
        await store.create_conversation(conversation("restored"))
        await running(store, new_turn("t1", conversation="restored"))
        assert caplog.messages == []
        changes: list[Awaitable[object]] = [
            store.create_conversation(conversation(), limits),
            store.update_conversation("ann", "c1", Change(title="x"), NOW),
            store.put_feedback("ann", "t1.question", "up", None, NOW),
            store.clear_conversation("ann", "c1", NOW),
            store.delete_conversation("ann", "c1"),
        ]
        for change in changes:
            await change
        assert [text.count("stored on too few replicas") for text in caplog.messages] == [1] * len(changes)


def _end(turn: TurnRecord) -> Callable[[RedisStore], Awaitable[object]]:
    return lambda store: store.end(structs.replace(ending(turn), turn="lost"))
