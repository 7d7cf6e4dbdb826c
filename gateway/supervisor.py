"""Several processes on one port, on one machine: started, restarted when they die, and ended together.

Each has a listening socket of its own on the port (SO_REUSEPORT), between which the kernel shares connections out
evenly. The sockets are the supervisor's: what waits in one while its worker is restarted is served afterwards.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

log = logging.getLogger("turnwire.workers")

RESTART_FIRST_S = 0.1
RESTART_MAX_S = 5.0
STEADY_S = 30.0
"""Who has lived that long is restarted at once."""

Serve = Callable[[socket.socket, Callable[[str], None]], None]
"""Serves on a socket until a signal, and calls back with its ready line. Runs in the worker's process."""


def listen_each(host: str, port: int, count: int, backlog: int) -> list[socket.socket]:
    """As many listening sockets on one port. Raises `OSError`, also where another program listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without SO_REUSEPORT first: another gateway's sockets would let us in among them.
    with socket.create_server((host, port), family=family, backlog=0) as alone:
        port = alone.getsockname()[1]
    return [socket.create_server((host, port), family=family, backlog=backlog, reuse_port=True) for _ in range(count)]


class Workers:
    """The supervisor. It serves nothing itself, and has no event loop."""

    def __init__(self, sockets: list[socket.socket], serve: Serve) -> None:
        self._sockets = sockets
        self._serve = serve
        self._running: dict[int, int] = {}
        """By process id, the number of its socket."""
        self._began = [0.0] * len(sockets)
        self._delays_s = [RESTART_FIRST_S] * len(sockets)
        self._leaving = False
        self._woken, self._wake = socket.socketpair()

    def run(self, on_ready: Callable[[str], None]) -> int:
        """Until a signal, or until the first start fails; the exit code. `on_ready` hears the ready line of them all."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Each signal writes a byte there: `select` returns also for one that comes just before it begins to wait.
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        line = self._start(0)
        if line is None:
            return self._wait_for_all()
        for place in range(1, len(self._sockets)):
            if not self._leaving:
                self._start(place)
        if not self._leaving:
            on_ready(f"{line} - {len(self._sockets)} workers")
        return self._wait_for_all(restart=True)

    def _leave(self, *_: object) -> None:
        """Pass the wish on. A Ctrl-C comes to the workers by itself too; this one more does no harm."""
        self._leaving = True
        for pid in tuple(self._running):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _start(self, place: int) -> str | None:
        """Start a worker and wait until it is ready; its ready line, or None if it ended before."""
        heard, said = os.pipe()
        # The signals wait until the worker's id is known: nobody is forgotten.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            self._began[place] = time.monotonic()
            pid = os.fork()
            if pid == 0:
                os.close(heard)
                self._work(place, said)
            self._running[pid] = place
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        os.close(said)
        with os.fdopen(heard) as pipe:
            return pipe.readline().rstrip("\n") or None

    def _work(self, place: int, said: int) -> None:
        """The worker's process, from the fork to its exit."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _leave_at_once)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
            for other in (*self._sockets, self._woken, self._wake):
                if other is not self._sockets[place]:
                    other.close()

            def ready(line: str) -> None:
                os.write(said, f"{line}\n".encode())
                os.close(said)

            self._serve(self._sockets[place], ready)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            log.exception("a worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not `sys.exit`: what the supervisor would do at its end isn't the worker's to do.
            os._exit(code)

    def _wait_for_all(self, *, restart: bool = False) -> int:
        """Until none is left; the worst exit code. `restart`: who dies before a signal is replaced."""
        worst = 0
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                self._wait_for_a_signal()
                continue
            place = self._running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if restart and not self._leaving:
                log.warning("a worker died pid=%d code=%d", pid, code)
                self._replace(place)
            else:
                worst = max(worst, code if code >= 0 else 1)
        return worst

    def _wait_for_a_signal(self) -> None:
        select.select([self._woken], [], [])
        with suppress(BlockingIOError):
            self._woken.recv(1 << 12)

    def _replace(self, place: int) -> None:
        if time.monotonic() - self._began[place] >= STEADY_S:
            self._delays_s[place] = RESTART_FIRST_S
        until = time.monotonic() + self._delays_s[place]
        self._delays_s[place] = min(self._delays_s[place] * 2, RESTART_MAX_S)
        while not self._leaving and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.1))
        if not self._leaving:
            self._start(place)


def _leave_at_once(number: int, _: FrameType | None) -> None:
    """A signal before the worker's server listens to them."""
    os._exit(0)
