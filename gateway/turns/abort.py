"""AbortSignal: the one way to stop a turn, whatever the cause. The first abort wins and keeps its reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from msgspec import Struct

from gateway.protocol.errors import ApiError
from gateway.protocol.events import CancelledBy


class Abort(Struct, frozen=True):
    """Why. `by` a person or a limit cancels the turn; `error` fails it.

    "lost" and "handover" stop it here only: another instance has it, or shall have it.
    """

    by: CancelledBy | Literal["error", "lost", "handover"]
    reason: str | None = None
    error: ApiError | None = None


class Aborted(Exception):
    """Raised where an `AbortSignal.scope` ends because the signal fired."""

    def __init__(self, abort: Abort) -> None:
        super().__init__(abort.reason or abort.by)
        self.abort = abort


class AbortSignal:
    """Fires once. Listeners run synchronously, in the order in which they were added.

    `scope` interrupts the task inside it at its next await, and tells the signal's interruption from one that
    came from outside by counting (`Task.uncancel`), as `asyncio.timeout` does.
    """

    def __init__(self) -> None:
        self.abort_reason: Abort | None = None
        self._listeners: list[Callable[[Abort], object]] = []
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def aborted(self) -> bool:
        """Whether it has fired."""
        return self.abort_reason is not None

    def abort(self, abort: Abort) -> bool:
        """Fire. False if it had fired before: then the first reason stays."""
        if self.abort_reason is not None:
            return False
        self.abort_reason = abort
        self.release()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(abort)
        return True

    def abort_after(self, delay_s: float, abort: Abort) -> None:
        """Fire in `delay_s`, unless `release` comes first."""
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, self.abort, abort))

    def release(self) -> None:
        """Drop the timers: what they guard has ended."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def add_listener(self, listener: Callable[[Abort], object]) -> Callable[[], None]:
        """Call `listener` when it fires, at once if it has. Returns what removes the listener."""
        if self.abort_reason is not None:
            listener(self.abort_reason)
            return lambda: None
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    @classmethod
    def any(cls, *signals: AbortSignal) -> AbortSignal:
        """A signal that fires with the first of `signals`."""
        union = cls()
        for signal in signals:
            signal.add_listener(union.abort)
        return union

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[None]:
        """Run the body until the signal fires; then raise `Aborted` where the scope ends."""
        task = asyncio.current_task()
        assert task is not None, "a scope needs a task"
        if self.abort_reason is not None:
            raise Aborted(self.abort_reason)
        cancels_before = task.cancelling()
        fired = False
        soon: asyncio.Handle | None = None

        def cancel() -> None:
            nonlocal fired
            fired = True
            task.cancel()

        def interrupt(_: Abort) -> None:
            nonlocal soon
            if asyncio.current_task() is task:
                # A task that cancels itself would meet it at an await behind the scope, if none comes within.
                soon = asyncio.get_running_loop().call_soon(cancel)
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
            if soon is not None:
                soon.cancel()
