"""Logs are fields and never content: one form for our own events and those of the libraries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from gateway.telemetry.logs import QUIET, configure_logging

pytestmark = pytest.mark.usefixtures("_logging_as_it_was")

log = structlog.stdlib.get_logger("turnwire.test")


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logger.level for name, logger in root.manager.loggerDict.items() if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def fail() -> None:
    secret = "canary-" + "local"
    raise ValueError(f"of {len(secret)} characters")


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Our own events and a library's, with what was bound, level, logger and time; a traceback is one field."""
    configure_logging("info", "json")
    with bound_contextvars(connection="cn_1", user="ann"):
        log.info("turn ended", turn="t", seq=3)
        logging.getLogger("somebody.else").warning("they say %s", "so")
        try:
            fail()
        except ValueError:
            log.exception("it failed")
    said = capsys.readouterr()
    ours, theirs, failed = (json.loads(line) for line in said.err.splitlines())
    assert said.out == ""
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        **{"event": "turn ended", "level": "info", "logger": "turnwire.test"},
        **{"connection": "cn_1", "user": "ann", "turn": "t", "seq": 3},
    }
    assert (theirs["event"], theirs["logger"], theirs["user"]) == ("they say so", "somebody.else", "ann")
    assert failed["exception"].endswith("ValueError: of 12 characters")


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_local_variable_is_shown(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A traceback shows our lines and never what they held, whatever libraries for pretty ones are installed."""
    configure_logging("debug", "json" if form == "json" else "console")
    try:
        fail()
    except ValueError:
        log.exception("it failed")
    said = capsys.readouterr().err
    assert "of 12 characters" in said
    assert "canary-local" not in said


def test_the_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The event, then its fields as key=value."""
    configure_logging("info", "console")
    log.info("turn ended", turn="t")
    log.debug("not shown")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "turn ended" in said
    assert "turn=t" in said


def test_logs_hold_no_content_of_others() -> None:
    """At any level, the loggers that print paths, frames or requests stay quiet."""
    configure_logging("debug", "console")
    assert logging.getLogger("turnwire.turn").isEnabledFor(logging.DEBUG)
    for name in QUIET:
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
