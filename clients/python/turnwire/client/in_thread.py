"""Calls a program's functions, which may wait, in another thread than that of the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

import msgspec

from turnwire.client.tool_schema import Tool, tool


def in_thread(
    function: Callable[..., Any] | None, executor: Executor | None = None
) -> Callable[..., Awaitable[Any]] | None:
    """Return an async function that calls `function`, which may wait, in another thread. An async one is returned as it is.

    `executor` provides the thread; by default, the event loop's does.
    """
    if function is None or inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        work = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        result = await asyncio.get_running_loop().run_in_executor(executor, work)
        return await result if inspect.isawaitable(result) else result

    return call


def tool_in_thread(item: Any) -> Any:
    """Return the tool with its function called in another thread. What isn't a tool with a function is returned as it is."""
    made = tool(item) if callable(item) and not isinstance(item, Tool) else item
    if not isinstance(made, Tool) or made.function is None:
        return made
    return msgspec.structs.replace(made, function=in_thread(made.function))
