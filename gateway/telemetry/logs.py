"""Logs: one event per line on standard error, with ids, sizes and timings as fields, never content.

Which connection, turn, user and request an event belongs to is bound where their work begins. Nothing is logged per token.
A traceback shows lines of code and kinds of exceptions; what an exception says is shown of our own alone, for others quote
what they were given.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Literal

import structlog
from structlog.typing import Processor

from gateway.errors import ApiError
from providers.base import ProviderError
from store.base import StoreError

# uvicorn logs paths with their query, websockets prints frames, SDKs and clients print requests.
QUIET = (
    *("uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "asyncio"),
    *("openai", "anthropic", "httpx2", "httpcore2", "aiohttp", "opentelemetry"),
)

OURS = (ApiError, ProviderError, StoreError)
"""Exceptions whose words are written here, and hold nothing of anybody."""

_FACTS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.ExceptionRenderer(lambda failed: "\n".join(traced(failed[1]))),
]


def log_through_stdlib() -> None:
    """Let every event be a record of the standard library's loggers, which decide what is shown, and where."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_FACTS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def traced(failed: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """The lines of a traceback: what it came from first, then itself, then those that it groups."""
    seen |= {id(failed)}
    before = failed.__cause__ if failed.__suppress_context__ else failed.__cause__ or failed.__context__
    if before is not None and id(before) not in seen:
        yield from traced(before, seen)
        yield "which led to"
    if failed.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield "".join(traceback.format_tb(failed.__traceback__)).rstrip()
    kind = type(failed)
    yield f"{kind.__module__}.{kind.__qualname__}" + (f": {failed}" if isinstance(failed, OURS) else "")
    if isinstance(failed, BaseExceptionGroup):
        for number, inner in enumerate(failed.exceptions, 1):
            yield f"of which the {number}. is"
            yield from traced(inner, seen)


def configure_logging(level: str, form: Literal["console", "json"]) -> None:
    """Our own events and those of the libraries, in one form."""
    log_through_stdlib()
    renderer: Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_FACTS,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
