"""Work that nobody waits for."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from gateway.tasks import contained, spawn


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


async def test_what_fails_in_a_turn_stays_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the turn's ids, and nobody else's work is cancelled for it."""

    async def work() -> None:
        raise ZeroDivisionError("a defect")

    await asyncio.get_running_loop().create_task(contained(work(), "ann", "t"))
    assert "a defect" in caplog.text
    assert "'user': 'ann'" in caplog.text
    assert "'turn': 't'" in caplog.text
