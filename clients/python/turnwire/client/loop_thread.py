"""An event loop in a thread of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import selectors
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import msgspec

from turnwire.client.errors import ConnectionClosed, WrongLoop, WrongProcess

Result = TypeVar("Result")
Item = TypeVar("Item")

STOP_S = 10.0
"""How long the end of the thread is awaited."""

_CALLBACK_THREADS = "turnwire-callback"
_END = object()


class LoopThread:
    """Runs coroutines while the caller waits. `stop` ends it; so does the end of the program, and the last reference."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._loop = _Loop(self._selector)
        self._loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix=_CALLBACK_THREADS))
        self._thread = threading.Thread(target=_run, args=(self._loop,), name="turnwire", daemon=True)
        self._lock = threading.Lock()
        self._stopped = False
        self._finalizer = weakref.finalize(self, _stop, self._loop, self._thread, self._pid)
        self._thread.start()
        _running.add(self)

    @property
    def is_foreign(self) -> bool:
        """Whether this process was forked from the one that has the thread."""
        return self._pid != os.getpid()

    @property
    def is_callback(self) -> bool:
        """Whether the caller is a callback, which runs in a thread of the loop's executor."""
        return threading.current_thread().name.startswith(_CALLBACK_THREADS)

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopped

    def run(self, make: Callable[[], Awaitable[Result]], timeout: float | None = None) -> Result:
        """Call `make` in the thread, await what it returns, and return the result.

        `timeout`: the longest wait in s. After it, and after an interrupt such as `KeyboardInterrupt`, the coroutine is
        cancelled.

        Raises:
            ConnectionClosed: The thread was stopped.
            TimeoutError: The time is over.
            WrongLoop: The caller is the thread itself.
            WrongProcess: The thread is in the process from which this one was forked.
        """
        future = self.submit(make)
        try:
            return wait_for(future, timeout)
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the thread, and return its result. Raises as `run`."""

        async def call() -> Result:
            return function()

        return self.run(call)

    def submit(self, make: Callable[[], Awaitable[Result]]) -> concurrent.futures.Future[Result]:
        """Call `make` in the thread, and await what it returns. Return the future of its result. Raises as `run`."""
        if self.is_foreign:
            raise WrongProcess(
                "This connection belongs to the process from which this one was forked. Open another one with `connect` in"
                " this process."
            )
        if threading.current_thread() is self._thread:
            raise WrongLoop(
                "This call would wait for its own thread, that of the connection. Use `turnwire.client` in async callbacks."
            )

        async def call() -> Result:
            return await make()

        with self._lock:
            if self._stopped:
                raise ConnectionClosed("The connection was closed. Open another one with `connect`.")
            return asyncio.run_coroutine_threadsafe(call(), self._loop)

    def iterate(self, source: AsyncIterator[Item]) -> Iterator[Item]:
        """Iterate an async iterator. An interrupt such as `KeyboardInterrupt` loses no item: the iteration can go on."""
        return _Iterator(self, source)

    def stop(self) -> None:
        """Cancel what runs, and end the thread. In a forked process, it does nothing."""
        with self._lock:
            self._stopped = True
        _running.discard(self)
        self._finalizer()

    def abandon(self) -> None:
        """Leave everything as it is, for a process that was forked: what belongs to the parent must not be closed there.

        The selector is closed first, because the two processes share its kernel object.
        """
        kept: list[object] = [
            self._loop,
            asyncio.all_tasks(self._loop),
            list((self._selector.get_map() or {}).values()),
        ]
        kept.append(_Kept(kept))
        self._finalizer.detach()
        self._selector.close()


class _Kept(msgspec.Struct, gc=False):
    """Keeps `what`, if that has a reference to this, until the process ends, because the garbage collector doesn't see it.

    So nothing in it is finalized, not even when Python exits.
    """

    what: list[object]


def wait_for(future: concurrent.futures.Future[Result], timeout: float | None = None) -> Result:
    """Return the result of a future. `timeout` is in s. Raises `ConnectionClosed` if it was cancelled."""
    try:
        return future.result(timeout)
    except concurrent.futures.CancelledError:
        raise ConnectionClosed("The connection was closed during this call. Open another one with `connect`.") from None


class _Iterator(Generic[Item]):
    """Waits for one item after the other."""

    def __init__(self, thread: LoopThread, source: AsyncIterator[Item]) -> None:
        self._thread = thread
        self._source = source
        self._next: concurrent.futures.Future[Item | object] | None = None

    def __iter__(self) -> _Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._next is None:
            self._next = self._thread.submit(self._advance)
        try:
            item = wait_for(self._next)
        except (KeyboardInterrupt, SystemExit):
            raise  # the next call waits for the same item
        except BaseException:
            self._next = None
            raise
        self._next = None
        if item is _END:
            raise StopIteration
        return item  # type: ignore[return-value]

    async def _advance(self) -> Item | object:
        return await anext(self._source, _END)


class _Loop(asyncio.SelectorEventLoop):
    """A loop that, in a forked process, doesn't warn that it wasn't closed."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._owner_pid = os.getpid()

    def __del__(self) -> None:
        if self._owner_pid == os.getpid():
            super().__del__()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    if pid != os.getpid() or loop.is_closed():
        return
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(STOP_S)


_running: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _abandon_all() -> None:
    for thread in list(_running):
        thread.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
