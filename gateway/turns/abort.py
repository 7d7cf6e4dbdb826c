"""The abort signal: the only way to stop a turn, whatever the cause.

The first abort takes effect, and its reason is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from msgspec import Struct

from gateway.protocol.errors import ApiError
from gateway.protocol.events import CancelledBy


class Abort(Struct, frozen=True):
    """The reason for stopping a turn. `by`: the cause; "error" fails the turn.

    A client, an admin, a disconnect or a limit cancels the turn. "lost" and "handover" stop it only in this process:
    another instance has the turn, or is to take it over.
    """

    by: CancelledBy | Literal["error", "lost", "handover"]
    reason: str | None = None
    error: ApiError | None = None


class Aborted(Exception):
    """The exception that `AbortSignal.scope` raises if its signal has fired."""

    def __init__(self, abort: Abort) -> None:
        super().__init__(abort.reason or abort.by)
        self.abort = abort


class AbortSignal:
    """A signal that fires once. Listeners run synchronously, in the order in which they were added.

    `scope` interrupts its task at the next await. It counts cancellations (`Task.uncancel`), as `asyncio.timeout`
    does, to distinguish the signal's cancellation from one that came from outside.
    """

    def __init__(self) -> None:
        self.abort_reason: Abort | None = None
        self._listeners: list[Callable[[Abort], object]] = []
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def is_aborted(self) -> bool:
        """Whether the signal has fired."""
        return self.abort_reason is not None

    def abort(self, abort: Abort) -> bool:
        """Fire the signal. Return False if it had fired before; the first reason is kept then."""
        if self.abort_reason is not None:
            return False
        self.abort_reason = abort
        self.cancel_timers()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(abort)
        return True

    def abort_after(self, delay_s: float, abort: Abort) -> None:
        """Fire the signal after `delay_s`, unless `cancel_timers` is called first."""
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, self.abort, abort))

    def cancel_timers(self) -> None:
        """Cancel the timers that `abort_after` started."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def add_listener(self, listener: Callable[[Abort], object]) -> Callable[[], None]:
        """Call `listener` when the signal fires, or at once if it has. Return a function that removes the listener."""
        if self.abort_reason is not None:
            listener(self.abort_reason)
            return lambda: None
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[None]:
        """Run the body until the signal fires, then raise `Aborted` at the end of the scope.

        Raise `Aborted` before the body runs if the signal has fired already. A body that fires the signal itself is
        interrupted at its next await; if it has none, it completes and nothing is raised.
        """
        task = asyncio.current_task()
        assert task is not None, "a scope needs a task"
        if self.abort_reason is not None:
            raise Aborted(self.abort_reason)
        cancels_before = task.cancelling()
        fired = False
        delayed: asyncio.Handle | None = None

        def cancel() -> None:
            nonlocal fired
            fired = True
            task.cancel()

        def interrupt(_: Abort) -> None:
            nonlocal delayed
            if asyncio.current_task() is task:
                # A task that cancels itself is interrupted at its next await, which may be after the scope. Cancel it
                # from the loop instead, so that leaving the scope can revoke the cancellation.
                delayed = asyncio.get_running_loop().call_soon(cancel)
            else:
                cancel()

        remove = self.add_listener(interrupt)
        try:
            yield
        except asyncio.CancelledError:
            if fired and task.uncancel() <= cancels_before and self.abort_reason is not None:
                raise Aborted(self.abort_reason) from None
            raise
        except BaseException:
            if fired:
                task.uncancel()
            raise
        else:
            if fired:
                task.uncancel()
        finally:
            remove()
            if delayed is not None:
                delayed.cancel()
