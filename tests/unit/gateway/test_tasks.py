"""Background work that no caller awaits, and the metering of coroutines."""

from __future__ import annotations

import asyncio
import inspect
import time
from functools import partial

import pytest

from gateway.tasks import MeteredCoroutine, keep_running, run_logged, spawn


async def test_work_is_done_in_the_group() -> None:
    """The task group waits for the work that was spawned in it."""
    done = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(True)

    async with asyncio.TaskGroup() as tasks:
        spawn(tasks, work())
    assert done == [True]


async def test_work_for_a_group_that_has_ended_is_dropped() -> None:
    """Spawning in a task group that has ended starts nothing and closes the coroutine. A timer that fires during
    shutdown does that."""
    started = []

    async def work() -> None:
        started.append(True)

    async with asyncio.TaskGroup() as tasks:
        pass
    late = work()
    spawn(tasks, late)
    assert started == []
    assert inspect.getcoroutinestate(late) == inspect.CORO_CLOSED


async def test_a_background_task_that_fails_starts_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exception is logged, and ends no other task of the group. A task that returns isn't started again."""
    monkeypatch.setattr("gateway.tasks.RESTART_S", 0.001)
    runs: list[str] = []

    async def work(name: str) -> None:
        runs.append(name)
        if len(runs) < 3:
            raise ZeroDivisionError("a defect")

    await keep_running(partial(work, "a"))
    assert runs == ["a"] * 3
    assert caplog.text.count("starts again") == 2
    assert "work" in caplog.text


async def test_a_failure_in_a_turn_is_logged_and_contained(caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged with the user and the turn. It isn't raised, so it cancels no other work of a task group."""

    async def work() -> None:
        raise ZeroDivisionError("a defect")

    await asyncio.get_running_loop().create_task(run_logged(work(), "ann", "t"))
    assert "a defect" in caplog.text
    assert "'user': 'ann'" in caplog.text
    assert "'turn': 't'" in caplog.text


async def test_metering_does_not_change_the_coroutine() -> None:
    """Results, exceptions, cancellation and awaits are unchanged. Each step is timed, but not the wait between two
    steps."""
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

    began = time.perf_counter()
    assert await asyncio.create_task(MeteredCoroutine(work("wait"), steps_s.append)) == "late"
    assert 0.02 <= sum(steps_s) < time.perf_counter() - began - 0.04
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
    steps_s.clear()
    began = time.perf_counter()
    assert await MeteredCoroutine(work("wait"), steps_s.append) == "late"
    assert 0.02 <= sum(steps_s) < time.perf_counter() - began - 0.04
    with pytest.raises(KeyError):
        await MeteredCoroutine(work("raise"), steps_s.append)
    unbegun = asyncio.create_task(MeteredCoroutine(work("wait"), steps_s.append))
    unbegun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unbegun
