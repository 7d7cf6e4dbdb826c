"""`AbortController` and `AbortSignal`: one signal can stop any number of turns.

    controller = AbortController()
    turn = gateway.start("Hello", signal=controller.signal)
    controller.abort("the user pressed stop")

A signal may be made and aborted in any thread. Nothing runs for it until something listens to it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable

from turnwire.client.errors import Aborted

REASON_CHARS_MAX = 300

Listener = Callable[[], None]


class AbortSignal:
    """Tells whether, and why, something shall stop. Made by an `AbortController`, by `timeout` or by `any`."""

    def __init__(self) -> None:
        self._aborted = False
        self._reason: object = None
        self._listeners: dict[int, Listener] = {}
        self._next = 0
        self._lock = threading.Lock()

    @staticmethod
    def timeout(seconds: float) -> AbortSignal:
        """Return a signal that aborts by itself after this time. Its reason is a `TimeoutError`."""
        return _TimeoutSignal(seconds)

    @staticmethod
    def any(signals: Iterable[AbortSignal]) -> AbortSignal:
        """Return a signal that aborts as soon as one of `signals` does, with that one's reason."""
        return _AnySignal(signals)

    @property
    def aborted(self) -> bool:
        """Whether it was aborted."""
        return self._aborted

    @property
    def reason(self) -> object:
        """What was given to `abort`. None if it wasn't aborted, or without a reason."""
        return self._reason

    def throw_if_aborted(self) -> None:
        """Raise `Aborted` if it was aborted."""
        if self.aborted:
            raise Aborted(self.reason)

    async def wait(self) -> object:
        """Wait until it is aborted, and return the reason."""
        done = asyncio.Event()
        remove = self.listen(done.set)
        try:
            await done.wait()
        finally:
            remove()
        return self.reason

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` once in the running event loop, when it is aborted: soon, if it already was.

        Return a function that takes the listener away. A listener MUST NOT raise an exception.
        """
        loop = asyncio.get_running_loop()

        def call() -> None:
            try:
                loop.call_soon_threadsafe(listener)
            except RuntimeError:
                return  # the loop is closed, and so is what listened

        with self._lock:
            if not self._aborted:
                number = self._next = self._next + 1
                self._listeners[number] = call
                return lambda: self._remove(number)
        call()
        return lambda: None

    def _remove(self, number: int) -> None:
        with self._lock:
            self._listeners.pop(number, None)

    def _abort(self, reason: object) -> None:
        with self._lock:
            if self._aborted:
                return
            self._aborted, self._reason = True, reason
            listeners = list(self._listeners.values())
            self._listeners.clear()
        for call in listeners:
            call()


class AbortController:
    """Aborts its `signal`."""

    def __init__(self) -> None:
        self.signal = AbortSignal()

    def abort(self, reason: object = None) -> None:
        """Abort the signal. The text of `reason`, at most 300 characters, is stored with each turn that it cancels.

        It may be called in any thread. A second call does nothing.
        """
        self.signal._abort(reason)


class _TimeoutSignal(AbortSignal):
    """Compares the clock. A timer runs only while something listens."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    @property
    def aborted(self) -> bool:
        if not self._aborted and time.monotonic() >= self._due:
            self._expire()
        return self._aborted

    @property
    def reason(self) -> object:
        return self._reason if self.aborted else None

    def listen(self, listener: Listener) -> Callable[[], None]:
        if self.aborted:
            return super().listen(listener)
        remove = super().listen(listener)
        timer = asyncio.get_running_loop().call_later(max(0.0, self._due - time.monotonic()), self._expire)

        def stop() -> None:
            timer.cancel()
            remove()

        return stop

    def _expire(self) -> None:
        self._abort(TimeoutError(f"The time of {self._seconds:g} s is over."))


class _AnySignal(AbortSignal):
    """Asks its sources, and listens to them only while something listens to it."""

    def __init__(self, signals: Iterable[AbortSignal]) -> None:
        super().__init__()
        self._sources = tuple(signals)

    @property
    def aborted(self) -> bool:
        if not self._aborted:
            self._follow()
        return self._aborted

    @property
    def reason(self) -> object:
        return self._reason if self.aborted else None

    def listen(self, listener: Listener) -> Callable[[], None]:
        if self.aborted:
            return super().listen(listener)
        remove = super().listen(listener)
        removers = [source.listen(self._follow) for source in self._sources]

        def stop() -> None:
            for take_away in removers:
                take_away()
            remove()

        return stop

    def _follow(self) -> None:
        for source in self._sources:
            if source.aborted:
                self._abort(source.reason)
                return


def reason_text(reason: object) -> str | None:
    """Return the text of a reason, which may be any object, as a request carries it. None: it has none."""
    if reason is None:
        return None
    try:
        text = str(reason)
        if not text and not isinstance(reason, str):
            text = type(reason).__name__
    except Exception:
        text = type(reason).__name__  # an object may have a `__str__` that fails
    return text.encode("utf-8", "replace").decode()[:REASON_CHARS_MAX] or None
