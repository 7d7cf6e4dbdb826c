"""Tests of the queue of store calls: few run at a time, users alternate, and a flood delays only its own user."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.fair_queue import EMBEDDED_SLOTS, QUEUED_CALLS, FairQueue, QueueFull, queue_calls
from store.api import Store
from store.errors import NotFound
from tests.in_process import ControlledStore


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """Calls of a queue, each of which runs until the test ends it."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.started: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.gates: dict[str, asyncio.Event] = {}

    def call(self, name: str) -> None:
        """Start a call. The part of `name` before the dash is its user."""
        self.gates[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._call(name))

    async def _call(self, name: str) -> None:
        await self.queue.acquire(name.split("-")[0])
        self.started.append(name)
        try:
            await self.gates[name].wait()
        finally:
            self.queue.release()

    async def end(self, name: str) -> None:
        self.gates[name].set()
        await settle()


async def test_a_free_slot_goes_to_the_next_user() -> None:
    """Users take turns, regardless of how many calls they have and how long these have waited.

    Each user's calls keep their order.
    """
    work = Work(FairQueue(1, 0))
    for name in ("eve-1", "eve-2", "eve-3", "eve-4", "ann-1", "ann-2", "bob-1"):
        work.call(name)
        await settle()
    order = ["eve-1", "eve-2", "ann-1", "bob-1", "eve-3", "ann-2", "eve-4"]
    for n, name in enumerate(order):
        assert work.started == order[: n + 1]
        await work.end(name)


async def test_slots_are_used_and_released() -> None:
    """A single user may use all the slots if no other user waits. A cancelled call keeps no slot."""
    work = Work(FairQueue(2, 0))
    for n in range(5):
        work.call(f"ann-{n}")
    await settle()
    assert work.started == ["ann-0", "ann-1"]
    work.tasks["ann-2"].cancel()
    work.tasks["ann-0"].cancel()
    await settle()
    assert work.started == ["ann-0", "ann-1", "ann-3"]
    work.gates["ann-1"].set()
    await asyncio.sleep(0)
    work.tasks["ann-4"].cancel()  # it has a slot already, but hasn't continued yet
    await settle()
    work.call("bob-1")
    await settle()
    assert work.started[-1] == "bob-1"


async def test_the_waiting_calls_of_a_user_are_limited() -> None:
    """One more call is refused at once. Another user's call isn't."""
    work = Work(FairQueue(1, 2))
    for name in ("eve-1", "eve-2", "eve-3", "ann-1"):
        work.call(name)
    await settle()
    with pytest.raises(QueueFull):
        await work.queue.acquire("eve")
    await work.end("eve-1")
    work.call("eve-4")
    await settle()
    assert not work.tasks["eve-4"].done()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ask", "end", "cancel"])), max_size=40))
def test_no_slot_is_lost_and_none_is_given_twice(steps: list[tuple[str, str]]) -> None:
    """However calls end or are cancelled, as many calls run as there are slots, and all of them end."""

    async def run() -> None:
        work = Work(FairQueue(2, 0))
        for n, (user, step) in enumerate(steps):
            mine = [name for name, task in work.tasks.items() if name[0] == user and not task.done()]
            if step == "ask":
                work.call(f"{user}-{n}")
            elif step == "end" and mine:
                work.gates[mine[0]].set()
            elif mine:
                work.tasks[mine[-1]].cancel()
            if n % 3 == 0:
                await settle()
        await settle()
        alive = [name for name, task in work.tasks.items() if not task.done()]
        assert len([name for name in work.started if not work.tasks[name].done()]) == min(2, len(alive))
        for gate in work.gates.values():
            gate.set()
        await asyncio.wait_for(asyncio.gather(*work.tasks.values(), return_exceptions=True), 5)
        await asyncio.wait_for(asyncio.gather(work.queue.acquire("x"), work.queue.acquire("y")), 1)

    asyncio.run(run())


def test_queued_calls_are_calls_of_the_store() -> None:
    """Calls that a running turn needs for its log, its lease and its ending aren't queued."""
    assert all(callable(getattr(Store, name)) for name in QUEUED_CALLS)
    assert QUEUED_CALLS.isdisjoint(
        {"append", "end", "renew", "release", "claim", "expired_leases", "run_pubsub", "subscribe", "ping"}
    )


async def test_a_queued_store_behaves_like_the_store(store: ControlledStore) -> None:
    """Results and errors pass through, and a cancelled or failed call keeps no slot."""
    queued = queue_calls(store.as_store, 0)
    assert queued.shared is False
    for _ in range(EMBEDDED_SLOTS + 1):
        with pytest.raises(NotFound):
            await queued.turn("ann", "none")
        asyncio.create_task(queued.turn("ann", "none")).cancel()
        await asyncio.sleep(0)
    assert await asyncio.wait_for(queued.active("ann", None), 1) == []
    await queued.ping()
