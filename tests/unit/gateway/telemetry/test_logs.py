"""Tests of the logs: one format for our events, those of libraries and uncaught exceptions, without content, and
without control characters."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from gateway.protocol.plain_text import is_plain
from gateway.telemetry.logs import QUIET_LOGGERS, configure_logging, format_traceback
from store.errors import StoreError

pytestmark = pytest.mark.usefixtures("_restored_logging")

log = structlog.stdlib.get_logger("turnwire.test")


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    levels = {
        name: logger.level for name, logger in root.manager.loggerDict.items() if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def raise_with_secret() -> None:
    """Raise an exception group whose messages quote a secret, with a `StoreError` as its cause."""
    secret = "canary-" + "local"
    try:
        int(secret)
    except ValueError:
        try:
            raise StoreError("Redis is unreachable.")
        except StoreError as lost:
            raise ExceptionGroup(secret, [KeyError(secret), OSError(secret)]) from lost


def test_json_logs_are_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Our events and a library's have the bound fields, level, logger and time. A traceback is one field."""
    configure_logging("info", "json")
    with bound_contextvars(connection="cn_1", user="ann"):
        log.info("turn ended", turn="t", seq=3)
        logging.getLogger("somebody.else").warning("they say %s", "so")
        try:
            raise_with_secret()
        except ExceptionGroup:
            log.exception("it failed")
    output = capsys.readouterr()
    ours, theirs, failed = (json.loads(line) for line in output.err.splitlines())
    assert output.out == ""
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        **{"event": "turn ended", "level": "info", "logger": "turnwire.test"},
        **{"connection": "cn_1", "user": "ann", "turn": "t", "seq": 3},
    }
    assert theirs.pop("timestamp").endswith("Z")
    assert theirs == {
        **{"event": "they say so", "level": "warning", "logger": "somebody.else"},
        **{"connection": "cn_1", "user": "ann"},
    }
    assert failed["exception"].endswith("builtins.OSError")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_code_but_no_values(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A traceback contains source lines and the types of all exceptions, but no values.

    Only our own exceptions' messages are shown. The same applies to exceptions that a library logs.
    """
    configure_logging("debug", "json" if form == "json" else "console")
    try:
        raise_with_secret()
    except ExceptionGroup:
        log.exception("it failed")
        logging.getLogger("somebody.else").exception("it failed for them")
    output = capsys.readouterr().err
    assert "canary-local" not in output
    for shown in (
        "StoreError: Redis is unreachable.",
        "builtins.ValueError",
        "ExceptionGroup",
        "builtins.KeyError",
        "OSError",
        "test_logs.py",
        "int(",
    ):
        assert output.count(shown) >= 2, shown


NASTY = "\x1b[2Ja\x07\n2026-01-31 [info] forged\u202e\u2028\x9b\ud800"
SHOWN = r"\x1b[2Ja\x07\n2026-01-31 [info] forged\u202e\u2028\x9b\ud800"


class Odd:
    """An object that a library may log."""

    def __repr__(self) -> str:
        return f"<{NASTY}>"


@pytest.mark.parametrize("form", ["json", "console", "terminal"])
def test_no_line_contains_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """They are escaped in all fields at any depth, in bound values and in our exceptions' messages.

    The same applies to the lines of a library such as uvicorn. So no log line can be forged.
    """
    monkeypatch.setattr("sys.stderr.isatty", lambda: form == "terminal", raising=False)
    configure_logging("debug", "json" if form == "json" else "console")
    with bound_contextvars(request=NASTY):
        log.info(NASTY, turn=NASTY, turns=[NASTY, {NASTY: (NASTY,)}], odd=Odd())
        logging.getLogger("uvicorn.error").error("%s%s %s\n", NASTY, NASTY, Odd())
        try:
            raise StoreError(NASTY)
        except StoreError:
            log.exception("it failed")
            logging.getLogger("uvicorn.error").exception(NASTY)
    output = capsys.readouterr().err
    ours = re.sub(r"\x1b\[\d+m", "", output) if form == "terminal" else output
    assert {one for one in ours if not is_plain(one)} == {"\n"}
    assert not any(line.startswith("2026-01-31") for line in output.splitlines())
    if form == "json":
        read = [json.loads(line) for line in output.splitlines()]
        assert (read[0]["event"], read[0]["turn"], read[0]["request"]) == (SHOWN, SHOWN, SHOWN)
        assert read[0]["turns"] == [SHOWN, {SHOWN: [SHOWN]}]
        assert read[1]["event"] == f"{SHOWN}{SHOWN} <{SHOWN}>"
        assert read[2]["exception"].splitlines()[-1] == f"store.errors.StoreError: {SHOWN}"
    else:
        assert ours.count(SHOWN) >= 4
        assert ours.count("\nTraceback (most recent call last):\n") == 2


def test_a_cycle_of_exceptions_is_formatted_once() -> None:
    """Each exception of the cycle is shown once."""
    one, two = ValueError(), KeyError()
    one.__context__, two.__context__ = two, one
    assert [line for line in format_traceback(one) if "builtins" in line] == [
        "builtins.KeyError",
        "builtins.ValueError",
    ]


def test_the_console_format_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    """A line contains the event and its fields as key=value. An event below the level has no line."""
    configure_logging("info", "console")
    log.info("turn ended", turn="t")
    log.debug("not shown")
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert "turn ended" in output
    assert "turn=t" in output


def test_loggers_that_print_content_are_quiet() -> None:
    """Even at the level `debug`, loggers that print paths, frames or requests are disabled below `warning`."""
    configure_logging("debug", "console")
    assert logging.getLogger("turnwire.turn").isEnabledFor(logging.DEBUG)
    for name in QUIET_LOGGERS:
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)


UNCAUGHT_ERRORS = """
import asyncio, gc, sys, threading, uvloop
from gateway.telemetry.logs import configure_logging

configure_logging("info", sys.argv[1])
SECRET = "canary-" + "local"

def fail(*_):
    raise ValueError(SECRET)

class Lost:
    __del__ = fail

async def lose():
    asyncio.get_running_loop().call_soon(fail, SECRET)
    lost = asyncio.get_running_loop().create_task(asyncio.to_thread(fail))
    await asyncio.sleep(0.1)
    del lost
    gc.collect()

thread = threading.Thread(target=fail)
thread.start()
thread.join()
Lost()
asyncio.run(lose())
uvloop.run(lose())
threading.Thread(target=sys.exit).start()
fail()
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_uncaught_exceptions_show_code_but_no_values(form: str) -> None:
    """This covers threads, destructors, callbacks and tasks of asyncio's and uvloop's event loops, and an exception that
    ends the process."""
    ended = subprocess.run([sys.executable, "-c", UNCAUGHT_ERRORS, form], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("ValueError") >= 7, ended.stderr
    assert "canary-local" not in ended.stderr
    assert "in fail" in ended.stderr
    if form == "json":
        assert all(json.loads(line)["level"] == "error" for line in ended.stderr.splitlines())
