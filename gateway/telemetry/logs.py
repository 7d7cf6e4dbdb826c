"""Logs: one event per line on standard error, with ids, sizes and timings as fields, never content.

Which connection, turn, user and request an event belongs to is bound where their work begins. Nothing is logged per token.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

# uvicorn logs paths with their query, websockets prints frames, SDKs and clients print requests.
QUIET = (
    *("uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "asyncio"),
    *("openai", "anthropic", "httpx2", "httpcore2", "aiohttp", "opentelemetry"),
)

_FACTS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def log_through_stdlib() -> None:
    """Let every event be a record of the standard library's loggers, which decide what is shown, and where."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_FACTS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def configure_logging(level: str, form: Literal["console", "json"]) -> None:
    """Our own events and those of the libraries, in one form."""
    log_through_stdlib()
    renderer: Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        # The default formatter of exceptions would print local variables, and with them content.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain, pad_event_to=0)
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
