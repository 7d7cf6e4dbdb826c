"""Work that nobody waits for."""

from __future__ import annotations

import asyncio
import inspect

from gateway.tasks import spawn


async def test_work_is_done_in_the_group() -> None:
    """The group waits for what was spawned in it."""
    done = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(True)

    async with asyncio.TaskGroup() as tasks:
        spawn(tasks, work())
    assert done == [True]


async def test_work_for_a_group_that_has_ended_is_dropped() -> None:
    """A timer that fires while the application ends starts nothing, and leaves no coroutine behind."""
    begun = []

    async def work() -> None:
        begun.append(True)

    async with asyncio.TaskGroup() as tasks:
        pass
    late = work()
    spawn(tasks, late)
    assert begun == []
    assert inspect.getcoroutinestate(late) == inspect.CORO_CLOSED
