"""What can still be done with futures and transports when their event loop is closed, or belongs to another process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any


def settle(future: asyncio.Future[Any], result: Any) -> None:
    """Give a future its result, unless it has one."""
    if not future.done():
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits
            future.set_result(result)


def reject(future: asyncio.Future[Any], error: Exception) -> None:
    """Let a future fail, unless it is done. Nobody has to await it."""
    if not future.done():
        with contextlib.suppress(RuntimeError):
            future.set_exception(error)
        future.exception()  # it is retrieved, so it isn't logged as one that never was


def set_event(event: asyncio.Event) -> None:
    """Wake what waits for an event."""
    with contextlib.suppress(RuntimeError):
        event.set()


def abort(transport: Any, process: int) -> None:
    """Close a transport that was opened in the process with this number.

    In a process that was forked from it, only the copy of the socket is closed: to take it out of the loop, whose selector
    both share, would make the other process deaf.
    """
    if os.getpid() != process:
        forget(transport)
        return
    try:
        transport.abort()
    except RuntimeError:  # the loop is closed
        forget(transport)


def forget(transport: Any) -> None:
    """Close a transport's socket without its event loop, so that Python doesn't warn about it."""
    with contextlib.suppress(Exception):
        inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
        if inner is not None:
            transport._closed = True
            forget(inner)
            return
        sock = transport._sock
        transport._sock = None
        sock.close()
