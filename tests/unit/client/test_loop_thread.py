"""Tests of the thread in which the blocking client runs its event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from turnwire.client import ConnectionClosed, WrongLoop
from turnwire.client.loop_thread import LoopThread

FORK = """
import asyncio, gc, os, socket, sys, threading
from turnwire.client import WrongProcess
from turnwire.client.loop_thread import LoopThread

thread = LoopThread()

async def connected():
    one, self.other = socket.socketpair()
    self.reader, self.writer = await asyncio.open_connection(sock=one)

async def echo():
    reader, writer = self.reader, self.writer
    asyncio.get_running_loop().call_soon(started.set)  # it waits by then
    try:
        return await reader.readexactly(1)
    finally:
        writer.close()  # in the child, this would take the socket out of the parent's selector

class self: pass
started = threading.Event()
thread.run(connected)
waiting = thread.submit(echo)
assert started.wait(10)
pid = os.fork()
if pid == 0:
    try:
        thread.run(echo)
    except WrongProcess as error:
        assert "Open another one" in str(error)
        del error
    thread.stop()
    del thread, waiting, self.reader, self.writer
    gc.collect()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
self.other.send(b"x")
assert waiting.result(10) == b"x"
self.other.close()
thread.stop()
"""


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """A running thread. At the end, nothing of it is left."""
    before = threading.active_count()
    made = LoopThread()
    yield made
    made.stop()
    assert threading.active_count() == before


async def _numbers(gate: asyncio.Event) -> AsyncIterator[int]:
    for number in range(3):
        await gate.wait()
        yield number


def test_a_call_waits_for_its_result(thread: LoopThread) -> None:
    """The result or the exception of the coroutine is that of the call. A time that is over cancels it."""
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def fail() -> None:
        raise ValueError("no")

    assert thread.run(lambda: asyncio.sleep(0, "yes")) == "yes"
    assert thread.call(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ValueError, match="no"):
        thread.run(fail)
    with pytest.raises(TimeoutError):
        thread.run(forever, 0.01)
    assert cancelled.wait(10)


def test_an_interrupt_ends_a_wait_and_loses_no_item(thread: LoopThread) -> None:
    """A signal handler that raises ends the wait at once. The next loop has the item for which the first one waited."""
    gate = asyncio.Event()
    items = thread.iterate(_numbers(gate))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(items)
    assert time.monotonic() - began < 10
    timer.join()
    thread.call(gate.set)
    assert list(items) == [0, 1, 2]


def test_after_the_stop_calls_are_refused(thread: LoopThread) -> None:
    """What waits then fails, too."""
    waiting = thread.iterate(_numbers(asyncio.Event()))
    timer = threading.Timer(0.1, thread.stop)
    timer.start()
    with pytest.raises(ConnectionClosed, match="during this call"):
        next(waiting)
    timer.join()
    with pytest.raises(ConnectionClosed, match="was closed"):
        thread.run(lambda: asyncio.sleep(0))
    thread.stop()


def test_a_call_in_the_thread_itself_is_refused(thread: LoopThread) -> None:
    """It would wait for itself."""
    with pytest.raises(WrongLoop, match="wait for its own thread"):
        thread.call(lambda: thread.call(int))


def test_the_last_reference_and_the_end_of_the_program_stop_it() -> None:
    """A program that closes nothing ends without a word, even while a call waits."""
    before = threading.active_count()
    LoopThread().run(lambda: asyncio.sleep(0))
    assert threading.active_count() == before
    program = (
        "import asyncio\nfrom turnwire.client.loop_thread import LoopThread\n"
        "thread = LoopThread()\nwaiting = thread.submit(lambda: asyncio.sleep(60))\n"
    )
    _run(program)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_leaves_it_to_its_parent() -> None:
    """A call raises there, and whatever is finalized there doesn't disturb the parent."""
    _run(FORK)


def _run(program: str) -> None:
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
