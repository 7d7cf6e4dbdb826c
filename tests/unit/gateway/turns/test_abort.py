"""AbortSignal: the first reason wins, and its interruption differs from an outside cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from gateway.protocol.errors import ApiError
from gateway.turns.abort import Abort, Aborted, AbortSignal

FIRST = Abort("client", "first")
SECOND = Abort("limit", "second")


def test_the_first_abort_wins() -> None:
    """A signal fires once and keeps its reason. Listeners are called once, in their order."""
    signal, calls = AbortSignal(), list[tuple[str, Abort]]()
    signal.add_listener(lambda abort: calls.append(("a", abort)))
    signal.add_listener(lambda abort: calls.append(("b", abort)))
    assert not signal.is_aborted
    assert signal.abort(FIRST)
    assert not signal.abort(SECOND)
    assert signal.abort_reason == FIRST
    assert calls == [("a", FIRST), ("b", FIRST)]


def test_a_late_listener_is_called_at_once() -> None:
    """A listener added after the signal fired is called at once."""
    signal, calls = AbortSignal(), list[Abort]()
    signal.abort(FIRST)
    remove = signal.add_listener(calls.append)
    assert calls == [FIRST]
    remove()


def test_a_removed_listener_is_not_called() -> None:
    """A listener can be removed more than once."""
    signal, calls = AbortSignal(), list[Abort]()
    remove = signal.add_listener(calls.append)
    remove()
    remove()
    signal.abort(FIRST)
    assert calls == []


async def test_a_timeout_fires_with_its_reason() -> None:
    """A timeout set by `abort_after` aborts the signal with its reason."""
    signal, fired = AbortSignal(), asyncio.Event()
    signal.add_listener(lambda _: fired.set())
    signal.abort_after(0.001, FIRST)
    await asyncio.wait_for(fired.wait(), 5)
    assert signal.abort_reason == FIRST


async def test_a_cancelled_timeout_never_fires() -> None:
    """`cancel_timers`, or another abort, cancels a timeout."""
    released, aborted = AbortSignal(), AbortSignal()
    released.abort_after(0, FIRST)
    aborted.abort_after(0, FIRST)
    released.cancel_timers()
    aborted.abort(SECOND)
    await asyncio.sleep(0.01)
    assert not released.is_aborted
    assert aborted.abort_reason == SECOND


async def test_a_scope_ends_with_aborted_at_its_next_await() -> None:
    """A signal that fires interrupts the body, and the task isn't left cancelled."""
    signal = AbortSignal()
    asyncio.get_running_loop().call_soon(signal.abort, FIRST)
    with pytest.raises(Aborted) as raised:
        async with signal.scope():
            await asyncio.Event().wait()
    assert raised.value.abort == FIRST
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_scope_does_not_begin_after_the_signal() -> None:
    """A turn that was cancelled before it began never runs its body."""
    signal = AbortSignal()
    signal.abort(FIRST)
    entered = False
    with pytest.raises(Aborted):
        async with signal.scope():
            entered = True
    assert not entered


async def test_a_scope_that_ends_first_is_not_interrupted() -> None:
    """A signal that fires after the scope interrupts nothing."""
    signal = AbortSignal()
    async with signal.scope():
        await asyncio.sleep(0)
    signal.abort(FIRST)
    await asyncio.sleep(0)
    assert signal.is_aborted


async def test_an_abort_from_within_the_body_interrupts_its_next_await() -> None:
    """A body that aborts its own signal, as for a limit, is interrupted at its next await."""
    signal, continued = AbortSignal(), asyncio.Event()

    async def body() -> None:
        async with signal.scope():
            signal.abort(FIRST)
            await asyncio.sleep(0)
            continued.set()

    with pytest.raises(Aborted):
        await body()
    assert not continued.is_set()


@pytest.mark.parametrize("error", [None, ValueError("body")])
async def test_an_abort_from_within_never_hits_an_await_after_the_scope(error: Exception | None) -> None:
    """A body that aborts its own signal and ends without another await leaves no pending cancellation."""
    signal = AbortSignal()
    with suppress(ValueError):
        async with signal.scope():
            signal.abort(FIRST)
            if error is not None:
                raise error
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_error_of_the_body_is_not_hidden_by_the_abort() -> None:
    """An exception that the body raises while it is interrupted is raised, and the task isn't left cancelled."""
    signal = AbortSignal()
    asyncio.get_running_loop().call_soon(signal.abort, FIRST)

    async def body() -> None:
        async with signal.scope():
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("clean-up")

    with pytest.raises(ValueError, match="clean-up"):
        await body()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_body_that_swallows_the_interruption_ends_normally() -> None:
    """The task isn't left cancelled in this case either."""
    signal = AbortSignal()
    asyncio.get_running_loop().call_soon(signal.abort, FIRST)
    async with signal.scope():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def outcome_of(
    work: Callable[[AbortSignal], Awaitable[object]], act: Callable[[asyncio.Task[object], AbortSignal], object]
) -> str:
    """Run `work` in a task, call `act` at its first await, and return how the task ended."""
    signal = AbortSignal()

    async def body() -> object:
        return await work(signal)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(body())
        await asyncio.sleep(0)
        act(task, signal)
        await asyncio.wait([task])
    return "cancelled" if task.cancelled() else str(task.result())


async def wait_in_scope(signal: AbortSignal) -> str:
    try:
        async with signal.scope():
            await asyncio.Event().wait()
    except Aborted as aborted:
        return f"aborted {aborted.abort.reason}"
    return "ended"


async def test_an_outside_cancellation_raises_cancelled_error() -> None:
    """A cancellation of the task without the signal is raised as `CancelledError`."""
    assert await outcome_of(wait_in_scope, lambda task, _: task.cancel()) == "cancelled"


async def test_the_signal_alone_raises_aborted() -> None:
    """A signal without a cancellation of the task is raised as `Aborted`."""
    assert await outcome_of(wait_in_scope, lambda _, signal: signal.abort(FIRST)) == "aborted first"


@pytest.mark.parametrize("signal_first", [True, False])
async def test_a_cancellation_wins_over_a_simultaneous_signal(signal_first: bool) -> None:
    """If both occur in one tick, in either order, the outside cancellation wins, because the task was told to stop."""

    def act(task: asyncio.Task[object], signal: AbortSignal) -> None:
        if signal_first:
            signal.abort(FIRST)
        task.cancel()
        signal.abort(FIRST)

    assert await outcome_of(wait_in_scope, act) == "cancelled"


async def test_a_nested_scope_ends_with_its_own_signal() -> None:
    """The inner signal ends the inner scope only; the outer signal ends both."""
    inner = AbortSignal()

    async def nested(outer: AbortSignal) -> str:
        calls = []
        try:
            async with outer.scope():
                try:
                    async with inner.scope():
                        await asyncio.Event().wait()
                except Aborted as aborted:
                    calls.append(f"inner {aborted.abort.reason}")
                await asyncio.Event().wait()
        except Aborted as aborted:
            calls.append(f"outer {aborted.abort.reason}")
        return ", ".join(calls)

    def inner_then_outer(_: asyncio.Task[object], outer: AbortSignal) -> None:
        inner.abort(FIRST)
        asyncio.get_running_loop().call_later(0.005, outer.abort, SECOND)

    assert await outcome_of(nested, inner_then_outer) == "inner first, outer second"
    inner = AbortSignal()
    assert await outcome_of(nested, lambda _, outer: outer.abort(SECOND)) == "outer second"


def test_the_text_of_aborted_is_its_reason() -> None:
    """The exception's text is the abort's `reason`, or its `by` if it has none."""
    assert str(Aborted(FIRST)) == "first"
    assert str(Aborted(Abort("error", error=ApiError("internal")))) == "error"
