"""Long work on large values, beside the event loop: decoding, checking, encoding.

Each step of it may hold the interpreter's lock for tens of milliseconds. One thread does it all, so that the loop waits
for one such step at a time, whatever many users send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from providers.base import ChatRequest

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BYTES = 256 * 1024
"""What is no larger takes less time than going to the thread and back, or hardly more."""

_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-large")
_LONG = ("text", "arguments", "output", "data")


async def aside(size: int, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(…)` on something of `size` bytes: at once, or in the thread if it is large."""
    if size <= LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREAD, partial(work, *args, **kwargs))


def size_of(chat_request: ChatRequest) -> int:
    """The characters of a question."""
    parts = [part for message in chat_request.messages for part in message.parts]
    return len(chat_request.system or "") + sum(
        len(getattr(part, name, None) or "") for part in parts for name in _LONG
    )
