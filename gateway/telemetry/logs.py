"""Logs: one log event per line on standard error, with ids, sizes and timings as fields, never content.

A connection, turn or request binds its fields, such as `user`, where its work begins. Nothing is logged per token. A
traceback takes several lines in the console format. It shows lines of code, types of exceptions, and the messages of our
own exceptions only: others may quote their input. Invisible characters are escaped, whichever library logs them.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

from gateway.protocol.errors import ApiError
from gateway.protocol.plain_text import escape_invisible
from providers.base import ProviderError
from store.api import user_hash
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.gateway")

# uvicorn logs paths with their query strings, websockets logs frames, SDKs and HTTP clients log requests.
QUIET_LOGGERS = (
    *("uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "asyncio"),
    *("openai", "anthropic", "httpx2", "httpcore2", "aiohttp", "opentelemetry", "alembic.runtime.plugins"),
)

SAFE_EXCEPTIONS = (ApiError, ProviderError, StoreError)
"""Exceptions whose messages are written in this project. Of user data they hold at most ids, names and enum values."""

_SHARED_PROCESSORS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.ExceptionRenderer(lambda failed: list(format_traceback(failed[1]))),
]


def escape_fields(_: Any, __: str, event: EventDict) -> EventDict:
    """Escape invisible characters in every field. Only a traceback keeps its line breaks."""
    lines = event.pop("exception", None)
    escaped_event = {name: _escape_value(value) for name, value in event.items()}
    if lines is not None:
        escaped_event["exception"] = "\n".join(escape_invisible(line) for line in lines)
    return escaped_event


def _escape_value(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, dict):
        return {escape_invisible(str(name)): _escape_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_escape_value(inner) for inner in value]
    return escape_invisible(value.rstrip("\n") if isinstance(value, str) else repr(value))


def configure_structlog() -> None:
    """Send every log event to the standard library's loggers.

    They decide which ones are shown, and where.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED_PROCESSORS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def format_traceback(failed: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield the lines of a traceback: the exception's cause or context, then itself, then those in its group.

    `seen` holds the `id()` of exceptions already shown.
    """
    seen |= {id(failed)}
    before = failed.__cause__ if failed.__suppress_context__ else failed.__cause__ or failed.__context__
    if before is not None and id(before) not in seen:
        yield from format_traceback(before, seen)
        yield "The exception above led to this one:"
    if failed.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield from "".join(traceback.format_tb(failed.__traceback__)).rstrip().split("\n")
    kind = type(failed)
    yield f"{kind.__module__}.{kind.__qualname__}" + (f": {failed}" if isinstance(failed, SAFE_EXCEPTIONS) else "")
    if isinstance(failed, BaseExceptionGroup):
        for number, inner in enumerate(failed.exceptions, 1):
            yield f"Exception {number} of the group:"
            yield from format_traceback(inner, seen)


def _drop_call_arguments(_: Any, __: str, event: EventDict) -> EventDict:
    """Cut asyncio's messages before the first parenthesis or line break.

    They repeat the failed call with its argument values, which may be content.
    """
    if event.get("logger") == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0].partition("(")[0]
    return event


def _log_uncaught_exceptions() -> None:
    """Log uncaught exceptions of the process, of threads and of finalizers.

    The interpreter would otherwise write their messages, which may quote content.
    """

    def caught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, SystemExit | KeyboardInterrupt):
            return
        error = kind() if error is None else error
        log.error("uncaught exception", exc_info=error.with_traceback(trace))

    sys.excepthook = caught
    threading.excepthook = lambda thread: caught(thread.exc_type, thread.exc_value, thread.exc_traceback)
    sys.unraisablehook = lambda ignored: caught(ignored.exc_type, ignored.exc_value, ignored.exc_traceback)


def hash_user(_: Any, __: str, event: EventDict) -> EventDict:
    """Write the hash of a user's name instead of the name."""
    user = event.get("user")
    return event if user is None else {**event, "user": user_hash(str(user))}


def configure_logging(level: str, log_format: Literal["console", "json"], users: Literal["id", "hash"] = "id") -> None:
    """Write our log events, those of the libraries and uncaught exceptions in one form.

    `level` is the name of a logging level, in upper or lower case. `users`: how a user is named.
    """
    configure_structlog()
    _log_uncaught_exceptions()
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED_PROCESSORS, _drop_call_arguments],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([hash_user] if users == "hash" else []),
                escape_fields,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
