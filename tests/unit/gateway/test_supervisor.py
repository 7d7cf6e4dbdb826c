"""Workers on one port: each receives connections, dead ones are replaced, and all of them end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from gateway.supervisor import listen

DEADLINE_S = 20.0
SUPERVISOR = """
import os, signal, sys, time
from gateway.supervisor import Workers, listen
{first}
def serve(listening, on_ready):
    {body}

sockets = listen("127.0.0.1", 0, 3, 16)
sys.exit(Workers(sockets, serve).run(lambda line: print(sockets[0].getsockname()[1], line, flush=True)))
"""
ANSWERING = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
    on_ready("ready")
    while True:
        connection, _ = listening.accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()
"""


def start_supervisor(body: str, first: str = "") -> subprocess.Popen[str]:
    """Start a supervisor process that runs the code `first`, and whose workers run the code `body`."""
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR.format(body=body.strip(), first=first)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def supervised(code: int = 0) -> Iterator[tuple[subprocess.Popen[str], Callable[[], int]]]:
    """Start a supervisor whose workers answer with their process ids. Yield it and a function that returns one
    answer."""
    with start_supervisor(ANSWERING.format(code=code)) as process:
        try:
            assert process.stdout is not None
            port, line = process.stdout.readline().split(" ", 1)
            assert line == "ready - 3 workers\n"

            def ask() -> int:
                while True:
                    with (
                        suppress(ConnectionError),
                        socket.create_connection(("127.0.0.1", int(port)), timeout=DEADLINE_S) as connection,
                    ):
                        # A worker that is killed after it accepts the connection sends nothing.
                        if reply := connection.recv(16):
                            return int(reply)

            yield process, ask
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # the workers, too


def all_three(ask: Callable[[], int]) -> set[int]:
    """Return the process ids of the three workers, as soon as all of them have answered."""
    seen: set[int] = set()
    until = time.monotonic() + DEADLINE_S
    while len(seen) < 3:
        assert time.monotonic() < until, f"only {seen} answer"
        seen.add(ask())
    return seen


def is_alive(pid: int) -> bool:
    """Return whether the process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_kernel_distributes_connections_to_all_workers() -> None:
    """Every worker receives some of the connections, without a load balancer."""
    with supervised() as (_, ask):
        all_three(ask)


def test_a_worker_that_dies_is_replaced() -> None:
    """Another process on the same socket replaces it, and three workers answer again."""
    with supervised() as (_, ask):
        first = all_three(ask)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        until = time.monotonic() + DEADLINE_S
        seen: set[int] = set()
        while len(seen - first) < 1 or len(seen - {victim}) < 3:
            assert time.monotonic() < until, f"{victim} of {first} died, {seen} answer"
            seen.add(ask())
        assert victim not in seen


@pytest.mark.parametrize("code", [0, 3])
def test_a_signal_ends_all_workers(code: int) -> None:
    """SIGTERM is forwarded to every worker. The supervisor waits for all of them, and exits with their exit code."""
    with supervised(code) as (process, ask):
        workers = all_three(ask)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == code
        assert not any(is_alive(pid) for pid in workers)


SIGNAL_IN_ANOTHER_THREAD = """
import threading

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
supervisor, mask = os.getpid(), signal.pthread_sigmask
mask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.pthread_sigmask = lambda *change: mask(*change) if os.getpid() != supervisor else None
"""


def test_a_signal_that_interrupts_no_call_ends_the_workers() -> None:
    """If another thread of the supervisor receives the signal, no call of its main thread is interrupted, as with a signal
    that arrives just before the main thread waits. The supervisor stops nevertheless."""
    with start_supervisor(ANSWERING.format(code=0), first=SIGNAL_IN_ANOTHER_THREAD) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("ready - 3 workers\n")
        process.terminate()
        try:
            assert process.wait(DEADLINE_S) == 0
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_failed_first_start_ends_the_supervisor() -> None:
    """The supervisor exits with the worker's exit code and doesn't retry."""
    with start_supervisor("sys.exit(4)") as process:
        assert process.wait(DEADLINE_S) == 4
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_a_port_that_is_taken_is_refused() -> None:
    """`listen` refuses a port that another gateway uses, although the workers of one gateway share a port (SO_REUSEPORT)."""
    sockets = listen("127.0.0.1", 0, 2, 16)
    port = sockets[0].getsockname()[1]
    assert [one.getsockname()[1] for one in sockets] == [port, port]
    with pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", port, 2, 16)
    for one in sockets:
        one.close()
