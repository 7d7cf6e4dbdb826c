"""Work that nobody waits for."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from gateway.tasks import MeteredCoroutine, run_logged, spawn


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
    started = []

    async def work() -> None:
        started.append(True)

    async with asyncio.TaskGroup() as tasks:
        pass
    late = work()
    spawn(tasks, late)
    assert started == []
    assert inspect.getcoroutinestate(late) == inspect.CORO_CLOSED


async def test_what_fails_in_a_turn_stays_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the turn's ids, and nobody else's work is cancelled for it."""

    async def work() -> None:
        raise ZeroDivisionError("a defect")

    await asyncio.get_running_loop().create_task(run_logged(work(), "ann", "t"))
    assert "a defect" in caplog.text
    assert "'user': 'ann'" in caplog.text
    assert "'turn': 't'" in caplog.text


async def test_metered_work_is_the_same_work() -> None:
    """What it answers, raises, catches and waits for; each of its steps is timed, and what it waits for isn't."""
    steps_s: list[float] = []
    gate = asyncio.Event()

    async def work(what: str) -> str:
        if what == "raise":
            await asyncio.sleep(0)
            raise KeyError(what)
        deadline = time.perf_counter() + 0.02
        while time.perf_counter() < deadline:
            pass
        try:
            await asyncio.wait_for(gate.wait(), 0.05)
        except TimeoutError:
            return "late"
        return "done"

    assert await asyncio.create_task(MeteredCoroutine(work("wait"), steps_s.append)) == "late"
    assert 0.02 <= sum(steps_s) < 0.04
    assert len(steps_s) > 1
    gate.set()
    assert await asyncio.create_task(MeteredCoroutine(work("wait"), steps_s.append)) == "done"
    with pytest.raises(KeyError):
        await asyncio.create_task(MeteredCoroutine(work("raise"), steps_s.append))
    gate.clear()
    waiting = asyncio.create_task(MeteredCoroutine(work("wait"), steps_s.append))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    unbegun = asyncio.create_task(MeteredCoroutine(work("wait"), steps_s.append))
    unbegun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unbegun
