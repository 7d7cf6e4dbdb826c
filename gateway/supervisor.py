"""Several worker processes on one port of one machine: started, restarted when they die, and stopped together.

Each worker has its own listening socket on the port (SO_REUSEPORT). The kernel distributes connections evenly between
them. The supervisor owns the sockets, so connections that wait while a worker restarts are served afterwards.
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

log = logging.getLogger("turnwire.workers")

RESTART_DELAY_MIN_S = 0.1
RESTART_DELAY_MAX_S = 5.0
STABLE_AFTER_S = 30.0
"""A worker that has run this long is restarted after `RESTART_DELAY_MIN_S`."""

Serve = Callable[[socket.socket, Callable[[str], None]], None]
"""A callable that serves a socket until a signal and calls back with its ready line. Runs in the worker's process."""


def listen(host: str, port: int, count: int, backlog: int) -> list[socket.socket]:
    """Return `count` sockets that listen on one port, each with a queue of `backlog` connections.

    Raises `OSError`, for example if another program listens on the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if count == 1:
        return [socket.create_server((host, port), family=family, backlog=backlog)]
    # Bind without SO_REUSEPORT first. With it, binding would succeed beside another gateway's sockets.
    with socket.create_server((host, port), family=family, backlog=0) as probe:
        port = probe.getsockname()[1]
    return [socket.create_server((host, port), family=family, backlog=backlog, reuse_port=True) for _ in range(count)]


class Workers:
    """The supervisor of the workers. It serves nothing itself and has no event loop."""

    def __init__(self, sockets: list[socket.socket], serve: Serve) -> None:
        self._sockets = sockets
        self._serve = serve
        self._slots: dict[int, int] = {}
        """The number of the worker's socket, by process id."""
        self._started_at = [0.0] * len(sockets)
        self._delays_s = [RESTART_DELAY_MIN_S] * len(sockets)
        self._is_stopping = False
        self._wakeup_reader, self._wakeup_writer = socket.socketpair()

    def run(self, on_ready: Callable[[str], None]) -> int:
        """Run the workers until a signal, or until the first start fails. Return the exit code.

        `on_ready` is called with one ready line for all workers.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Each signal writes a byte here, so `select` also returns for a signal that arrives just before it waits.
        for end in (self._wakeup_reader, self._wakeup_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        line = self._start(0)
        if line is None:
            return self._wait_for_all()
        for slot in range(1, len(self._sockets)):
            if not self._is_stopping:
                self._start(slot)
        if not self._is_stopping:
            on_ready(f"{line} - {len(self._sockets)} workers")
        return self._wait_for_all(restart=True)

    def _stop(self, *_: object) -> None:
        """Forward the signal to the workers. They receive a Ctrl-C directly too; a second signal does no harm."""
        self._is_stopping = True
        for pid in tuple(self._slots):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _start(self, slot: int) -> str | None:
        """Start a worker and wait until it is ready. Return its ready line, or None if it exited before."""
        pipe_in, pipe_out = os.pipe()
        # Signals wait until the worker's process id is known, so that no worker misses one.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            self._started_at[slot] = time.monotonic()
            pid = os.fork()
            if pid == 0:
                os.close(pipe_in)
                self._run_worker(slot, pipe_out)
            self._slots[pid] = slot
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        os.close(pipe_out)
        with os.fdopen(pipe_in) as pipe:
            return pipe.readline().rstrip("\n") or None

    def _run_worker(self, slot: int, pipe_out: int) -> None:
        """Run the worker's process from the fork to its exit."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT):
                # A signal that arrives before the worker's server handles signals ends the worker at once.
                signal.signal(number, lambda *_: os._exit(0))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
            for other in (*self._sockets, self._wakeup_reader, self._wakeup_writer):
                if other is not self._sockets[slot]:
                    other.close()

            def ready(line: str) -> None:
                os.write(pipe_out, f"{line}\n".encode())
                os.close(pipe_out)

            self._serve(self._sockets[slot], ready)
            code = 0
        except SystemExit as exited:
            code = exited.code if isinstance(exited.code, int) else 1
        except BaseException:
            log.exception("worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not `sys.exit`: the worker must not run the supervisor's cleanup.
            os._exit(code)

    def _wait_for_all(self, *, restart: bool = False) -> int:
        """Wait until no worker is left. Return the worst exit code.

        If `restart` is true, a worker that dies before a signal is replaced.
        """
        worst = 0
        while self._slots:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                self._wait_for_signal()
                continue
            slot = self._slots.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if restart and not self._is_stopping:
                log.warning("worker exited pid=%d code=%d", pid, code)
                self._replace(slot)
            else:
                worst = max(worst, code if code >= 0 else 1)
        return worst

    def _wait_for_signal(self) -> None:
        select.select([self._wakeup_reader], [], [])
        with suppress(BlockingIOError):
            self._wakeup_reader.recv(1 << 12)

    def _replace(self, slot: int) -> None:
        if time.monotonic() - self._started_at[slot] >= STABLE_AFTER_S:
            self._delays_s[slot] = RESTART_DELAY_MIN_S
        restart_at = time.monotonic() + self._delays_s[slot]
        self._delays_s[slot] = min(self._delays_s[slot] * 2, RESTART_DELAY_MAX_S)
        while not self._is_stopping and (remaining_s := restart_at - time.monotonic()) > 0:
            time.sleep(min(remaining_s, 0.1))
        if not self._is_stopping:
            self._start(slot)
