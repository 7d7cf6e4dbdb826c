"""Run long work on large values outside the event loop: decoding, checking, encoding.

Each step may hold the interpreter lock for tens of milliseconds. A single thread does all of the work, so that the loop
waits for one such step at a time, however much the users send.
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
"""Up to this size, the work takes hardly longer than a switch to the thread and back."""

ITEM_BYTES = 128
"""What each message or part adds to the size, because many small ones take as long as a long text."""

_EXECUTOR = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-large")
LONG_FIELDS = ("text", "arguments", "output", "data", "url")


async def offload(size_bytes: int, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`. Run it in the thread if `size_bytes` is above `LARGE_BYTES`, else at once."""
    if size_bytes <= LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_EXECUTOR, partial(work, *args, **kwargs))


def request_size(chat_request: ChatRequest) -> int:
    """Return the size of a provider request for `offload`.

    The size is the number of characters in the system prompt and in the `LONG_FIELDS` of all parts, plus `ITEM_BYTES`
    for each message and part. If the messages and parts alone make the request large, no characters are counted.
    """
    messages = chat_request.messages
    size = ITEM_BYTES * (len(messages) + sum(len(message.parts) for message in messages))
    if size > LARGE_BYTES:
        return size
    parts = [part for message in messages for part in message.parts]
    return (
        size
        + len(chat_request.system or "")
        + sum(len(getattr(part, name, None) or "") for part in parts for name in LONG_FIELDS)
    )
