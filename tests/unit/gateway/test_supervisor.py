"""Workers on one port: each has a share, the dead are replaced, and all of them end together."""

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


def program(body: str, first: str = "") -> subprocess.Popen[str]:
    """A supervisor as a process of its own, which does `first`, and whose workers do `body`."""
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR.format(body=body.strip(), first=first)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def supervised(code: int = 0) -> Iterator[tuple[subprocess.Popen[str], Callable[[], int]]]:
    """A supervisor whose workers answer with their process id, and who asks one of them."""
    with program(ANSWERING.format(code=code)) as process:
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
                        # Nothing comes from a worker that was killed when it had accepted this one.
                        if said := connection.recv(16):
                            return int(said)

            yield process, ask
        finally:
            process.kill()


def all_three(ask: Callable[[], int]) -> set[int]:
    """The process ids of three different workers that answer."""
    seen: set[int] = set()
    until = time.monotonic() + DEADLINE_S
    while len(seen) < 3:
        assert time.monotonic() < until, f"only {seen} answer"
        seen.add(ask())
    return seen


def is_alive(pid: int) -> bool:
    """Whether the process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_kernel_shares_connections_out_between_all_workers() -> None:
    """Every worker gets some of them, without a balancer."""
    with supervised() as (_, ask):
        all_three(ask)


def test_a_worker_that_dies_is_replaced() -> None:
    """By another process, on the same socket: afterwards three answer again."""
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
def test_a_signal_ends_them_all_and_the_exit_code_is_the_worst(code: int) -> None:
    """SIGTERM goes on to every worker, is waited for, and nobody is replaced."""
    with supervised(code) as (process, ask):
        workers = all_three(ask)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == code
        assert not any(is_alive(pid) for pid in workers)


ELSEWHERE = """
import threading

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
supervisor, mask = os.getpid(), signal.pthread_sigmask
mask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.pthread_sigmask = lambda *change: mask(*change) if os.getpid() != supervisor else None
"""


def test_a_signal_that_interrupts_nothing_ends_them_too() -> None:
    """One that comes just before the supervisor waits, or that another of its threads gets, interrupts no call of its own."""
    with program(ANSWERING.format(code=0), first=ELSEWHERE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("ready - 3 workers\n")
        process.terminate()
        try:
            assert process.wait(DEADLINE_S) == 0
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_first_start_that_fails_is_the_end() -> None:
    """Its exit code is the command's, and it isn't tried again."""
    with program("sys.exit(4)") as process:
        assert process.wait(DEADLINE_S) == 4
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_a_port_that_is_taken_is_refused() -> None:
    """Also where whoever has it would let others in."""
    sockets = listen("127.0.0.1", 0, 2, 16)
    port = sockets[0].getsockname()[1]
    assert [one.getsockname()[1] for one in sockets] == [port, port]
    with pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", port, 2, 16)
    for one in sockets:
        one.close()
