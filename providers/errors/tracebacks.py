"""Free what a handled exception still refers to."""

from __future__ import annotations


def drop_tracebacks(error: BaseException) -> None:
    """Drop the tracebacks of a handled exception, and of those that were being handled when it was raised.

    A traceback holds the variables of each function, such as a request of many megabytes. If one of them refers to the
    exception, all of them would stay in memory until a garbage collection.
    """
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__context__
