"""Reports a turn to callbacks."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from turnwire.client.errors import CallbackFailed, TurnwireError
from turnwire.client.records import Message

if TYPE_CHECKING:
    from turnwire.client.turn import Turn

OnChunk: TypeAlias = Callable[[str], Awaitable[None] | None]
OnError: TypeAlias = Callable[[TurnwireError], Awaitable[None] | None]
OnComplete: TypeAlias = Callable[[Message], Awaitable[None] | None]

log = logging.getLogger("turnwire.client")


async def report(
    turn: Turn,
    on_chunk: OnChunk | None,
    on_error: OnError | None,
    on_complete: OnComplete | None,
    stop: Callable[[Turn, CallbackFailed], None],
) -> None:
    """Call the callbacks until the turn has ended. If one fails, call `stop`, and `on_error` unless that has failed."""
    try:
        try:
            async for text in turn.text():
                await _call("on_chunk", on_chunk, text)
        except CallbackFailed:
            raise
        except TurnwireError as error:
            await _call("on_error", on_error, error)
        else:
            await _call("on_complete", on_complete, turn.message)
    except CallbackFailed as failure:
        log.error("%s", failure, exc_info=failure.__cause__)
        stop(turn, failure)
        if on_error is not None and failure.path != "on_error":
            try:
                await _call("on_error", on_error, failure)
            except CallbackFailed as second:
                log.error("%s", second, exc_info=second.__cause__)


async def _call(name: str, callback: Callable[[Any], Any] | None, value: object) -> None:
    if callback is None:
        return
    try:
        result = callback(value)
        if inspect.isawaitable(result):
            await result
    except Exception as error:
        raise CallbackFailed(
            f"The callback {name} has failed with {type(error).__name__}: {error}. Catch that in the callback.",
            path=name,
        ) from error
