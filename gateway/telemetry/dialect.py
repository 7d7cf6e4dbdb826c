"""The dialect in which a request came, for metrics, traces and logs."""

from __future__ import annotations

from contextvars import ContextVar

from structlog.contextvars import bind_contextvars

from gateway.dialects.base import DialectName

OWN: DialectName = "turnwire"

_dialect: ContextVar[DialectName] = ContextVar("turnwire_dialect", default=OWN)


def adopt_dialect(name: DialectName) -> None:
    """Adopt the dialect of a request. From now on, what this task starts is labelled with it."""
    _dialect.set(name)
    bind_contextvars(dialect=name)


def current_dialect() -> DialectName:
    """Return the dialect of the request that this task serves, or of the one that started it."""
    return _dialect.get()
