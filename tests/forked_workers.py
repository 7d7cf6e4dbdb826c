"""A pytest plugin that runs the tests in several processes, forked after the tests have been collected.

`-p no:xdist -p tests.forked_workers --workers 6` collects and imports once, where pytest-xdist does it in each worker. A worker
takes a whole file at a time, in the order of collection, and sends its reports to the main process, which prints them.
"""

from __future__ import annotations

import atexit
import os
import pickle
import random
import selectors
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, NoReturn, cast

import pytest
from _pytest.junitxml import xml_key

NUMBER = struct.Struct("!I")
"""The number of a file in the queue, or the length of a report."""
READ_BYTES = 1 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--workers`."""
    parser.addoption("--workers", type=int, default=0, help="run the tests in this number of forked processes")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in workers, if there are any. Otherwise, let pytest do it."""
    workers = session.config.getoption("workers")
    if not workers or session.testsfailed or session.config.option.collectonly:
        return None
    Workers(session, files_of(session.items)).run(workers)
    return True


def files_of(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """Return the tests of each file, in the order in which the files begin."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    return list(files.values())


@dataclass(eq=False)
class Worker:
    """A forked process, what it has sent and isn't read yet, and the number of the file that it runs."""

    pid: int
    received: bytearray = field(default_factory=bytearray)
    file: int | None = None
    # What pytest reads from the workers of pytest-xdist. It then shows a letter for each test instead of a line for each file.
    _workerinfocache: ClassVar[str] = ""

    @property
    def gateway(self) -> SimpleNamespace:
        return SimpleNamespace(id=self.pid)

    def messages(self, data: bytes) -> Iterator[object]:
        """Return the complete messages in what was received."""
        self.received += data
        while len(self.received) >= NUMBER.size:
            (size,) = NUMBER.unpack_from(self.received)
            end = NUMBER.size + size
            if len(self.received) < end:
                return
            yield pickle.loads(self.received[NUMBER.size : end])
            del self.received[:end]


class Workers:
    """The main process's part: it starts the workers, and reports what they send."""

    def __init__(self, session: pytest.Session, files: list[list[pytest.Item]]) -> None:
        self._session = session
        self._config = session.config
        self._files = files
        self._ended: set[str] = set()
        self._causes: dict[int, str] = {}

    def run(self, count: int) -> None:
        """Run all tests. A test that a worker took and hasn't ended, or that none took, gets a failed report."""
        running: dict[int, Worker] = {}
        # All workers take the numbers of files from this pipe. Its end is the end of the tests.
        queue, filled = os.pipe()
        os.write(filled, b"".join(map(NUMBER.pack, range(len(self._files)))))
        folder = self._config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        default = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for number in range(min(count, len(self._files))):
                reading, writing = os.pipe()
                pid = os.fork()
                if pid == 0:
                    signal.signal(signal.SIGTERM, default)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    for each in (filled, reading, *running):
                        os.close(each)
                    run_worker(self._session, self._files, queue, writing, folder / f"worker{number}")
                os.close(writing)
                running[reading] = Worker(pid)
            os.close(filled)
            self._read(running)
        finally:
            os.close(queue)
            for reading, worker in running.items():  # the run was interrupted
                os.close(reading)
                os.kill(worker.pid, signal.SIGINT)
            for worker in running.values():
                os.waitpid(worker.pid, 0)
            signal.signal(signal.SIGTERM, default)
        self._report_missing()

    def _read(self, running: dict[int, Worker]) -> None:
        with selectors.DefaultSelector() as selector:
            for reading in running:
                selector.register(reading, selectors.EVENT_READ)
            while running:
                for key, _ in selector.select():
                    reading = key.fd
                    data = os.read(reading, READ_BYTES)
                    for message in running[reading].messages(data):
                        self._handle(running[reading], message)
                    if not data:
                        selector.unregister(reading)
                        self._end(running.pop(reading))
                        os.close(reading)

    def _handle(self, worker: Worker, message: object) -> None:
        if isinstance(message, int):
            worker.file = message
            return
        hook = self._config.hook
        report = hook.pytest_report_from_serializable(config=self._config, data=message)
        report.node = worker
        if report.when == "teardown":
            self._ended.add(report.nodeid)
        hook.pytest_runtest_logreport(report=report)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)

    def _end(self, worker: Worker) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        if code != 0 and worker.file is not None:
            self._causes[worker.file] = f"the worker that ran this file ended with {code}"

    def _report_missing(self) -> None:
        for number, items in enumerate(self._files):
            cause = self._causes.get(number)
            missing = [item for item in items if item.nodeid not in self._ended]
            for item in missing:
                self._fail(item, f"This test did not end: {cause or 'no worker was left'}.")
            if cause and not missing:
                self._fail(items[-1], f"After this test, {cause}.")

    def _fail(self, item: pytest.Item, why: str) -> None:
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
        self._config.hook.pytest_runtest_logreport(report=report)


class Reporter:
    """A worker's part: it sends the reports of its tests to the main process."""

    def __init__(self, config: pytest.Config, writing: int) -> None:
        self._config = config
        self._writing = writing

    def send(self, message: object) -> None:
        """Send a message to the main process."""
        data = pickle.dumps(message)
        unsent = memoryview(NUMBER.pack(len(data)) + data)
        while unsent:
            unsent = unsent[os.write(self._writing, unsent) :]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send the report."""
        self.send(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))


def run_worker(
    session: pytest.Session, files: list[list[pytest.Item]], queue: int, writing: int, folder: Path
) -> NoReturn:
    """Run one test file after the other, as this worker takes them from the queue. Then end the fixtures and the process."""
    code = 1
    try:
        reporter = begin_worker(session.config, writing, folder)
        while data := os.read(queue, NUMBER.size):
            (number,) = NUMBER.unpack(data)
            reporter.send(number)
            run_file(session, files[number])
        session._setupstate.teardown_exact(None)
        code = 0
    except BaseException as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not isinstance(
            error, BrokenPipeError | KeyboardInterrupt
        ):  # the main process has ended, or the run is interrupted
            traceback.print_exc()
        with suppress(BaseException):
            session._setupstate.teardown_exact(None)
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def begin_worker(config: pytest.Config, writing: int, folder: Path) -> Reporter:
    """Make a forked process a worker: it reports to the main process only, and has its own temporary files."""
    atexit._clear()
    random.seed()
    plugins = config.pluginmanager
    capture = plugins.get_plugin("capturemanager")
    if capture is not None:  # its files would be those of all workers
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture(in_=True)
    terminal = plugins.unregister(name="terminalreporter")
    # Other plugins use these attributes. Nothing is printed except by the main process.
    plugins.register(SimpleNamespace(_tw=terminal._tw, stats={}), "terminalreporter")  # type: ignore[union-attr]
    junit = config.stash.get(xml_key, None)
    if junit is not None:
        plugins.unregister(junit)
    folder.mkdir(mode=0o700)
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
    reporter = Reporter(config, writing)
    plugins.register(reporter)
    return reporter


def run_file(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Run the tests of a file. Fixtures of the session are kept for the next file."""
    for item, following in zip(items, [*items[1:], session], strict=True):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=cast("pytest.Item", following))
