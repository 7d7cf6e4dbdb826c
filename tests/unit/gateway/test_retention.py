"""The sweep deletes expired conversations in the same way as their users would, on one instance at a time."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from gateway import retention
from gateway.protocol.ids import now_ms
from gateway.retention import Retention
from store.errors import Damaged, NotFound
from store.records import DAY_MS, ConversationRecord
from tests.in_process import ControlledStore, open_client, open_services
from tests.stored import conversation


async def test_expired_conversations_are_deleted(store: ControlledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting or the conversation's own retention applies. The sweep works in batches, and tells subscribers. While
    another instance has the permit, nothing is deleted."""
    monkeypatch.setattr(retention, "BATCH", 2)
    async with open_services(store) as services, open_client(services) as ann:
        now = now_ms()
        for name, days, age in (
            ("old1", None, 11),
            ("old2", None, 12),
            ("old3", None, 13),
            ("own", 2, 3),
            ("kept", 20, 15),
            ("forever", 0, 1000),
            ("new", None, 9),
        ):
            record = conversation(name, "ann", at=now - age * DAY_MS, retention_days=days)
            await store.create_conversation(record)
        await ann.request("conversation.attach", conversation="old2")
        assert await store.acquire_permits("another", [(retention.PERMIT, 1)], 60_000) == [True]
        assert await Retention(services, 10).sweep() == 0
        await store.release_permits([(retention.PERMIT, "another")])
        assert await Retention(services, 10).sweep() == 4
        names = [one.id for one in (await store.conversations("ann", 99, None))[0]]
        assert sorted(names) == ["forever", "kept", "new"]
        await ann.until(lambda: any(frame["type"] == "conversation.deleted" for frame in ann.frames))
        assert await Retention(services, 10).sweep() == 0
        assert await Retention(services, 0).sweep() == 0


async def test_a_conversation_that_was_changed_meanwhile_is_kept(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is continued or deleted after the sweep's search has found it, the sweep deletes nothing, and ends."""
    async with open_services(store) as services:
        now = now_ms()
        fresh = conversation("fresh", "ann", at=now)
        await store.create_conversation(fresh)

        async def expired(*_: object) -> list[tuple[str, str]]:
            return [("ann", "fresh"), ("ann", "gone")]

        monkeypatch.setattr(services.store, "expired_conversations", expired, raising=False)
        assert await Retention(services, 10).sweep() == 0
        assert structs.replace(await store.conversation("ann", "fresh")) == fresh
        with pytest.raises(NotFound):
            await store.conversation("ann", "gone")


@pytest.mark.parametrize("ahead", ["instance", "store"])
async def test_a_clock_that_is_ahead_deletes_nothing_early(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    """Only what is due by the clock of the instance and by that of the store is deleted."""
    hour_ms = 3_600_000
    now = now_ms()
    async with open_services(store) as services:
        for name, age_ms in (("due", DAY_MS + 60_000), ("in half an hour", DAY_MS - hour_ms // 2)):
            await store.create_conversation(conversation(name, "ann", at=now - age_ms))
        clocks = {"instance": now, "store": now, ahead: now + hour_ms}
        monkeypatch.setattr(retention, "now_ms", lambda: clocks["instance"])

        async def clock_ms() -> int:
            return clocks["store"]

        monkeypatch.setattr(services.store, "clock_ms", clock_ms, raising=False)
        assert await Retention(services, 1).sweep() == 1
        assert [one.id for one in (await store.conversations("ann", 99, None))[0]] == ["in half an hour"]


@pytest.mark.parametrize("error", [ValueError("invalid literal"), Damaged()])
async def test_a_damaged_conversation_stops_neither_the_sweep_nor_the_gateway(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever its data raises, the others are deleted, and the log names it."""
    async with open_services(store) as services:
        for name, age in (("bad", 12), ("old", 11)):
            await store.create_conversation(conversation(name, "ann", at=now_ms() - age * DAY_MS))
        read = services.store.conversation

        async def conversation_or_error(user: str, name: str) -> ConversationRecord:
            if name == "bad":
                raise error
            return await read(user, name)

        monkeypatch.setattr(services.store, "conversation", conversation_or_error, raising=False)
        with capture_logs() as logs:
            assert await Retention(services, 10).sweep() == 1
        assert [one["conversation"] for one in logs if one["log_level"] == "error"] == ["bad"]
        assert [one.id for one in (await store.conversations("ann", 9, None))[0]] == ["bad"]


async def test_a_sweep_that_fails_is_tried_again(store: ControlledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected must not end the background tasks of the gateway."""
    monkeypatch.setattr(retention, "SWEEP_S", 0.01)
    async with open_services(store) as services:
        swept = asyncio.Event()
        sweep = Retention(services, 10)

        async def fail() -> int:
            swept.set()
            raise ValueError

        monkeypatch.setattr(sweep, "sweep", fail)
        task = asyncio.create_task(sweep.run())
        for _ in range(2):
            async with asyncio.timeout(5):
                await swept.wait()
            swept.clear()
        assert not task.done()
        task.cancel()
