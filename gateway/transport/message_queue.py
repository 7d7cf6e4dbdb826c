"""The messages of one WebSocket for its application. It costs little memory while it is empty."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Message = TypeVar("Message")


class MessageQueue(Generic[Message]):
    """The part of `asyncio.Queue` that uvicorn uses, for one reader. An empty `asyncio.Queue` takes 3,000 bytes."""

    __slots__ = ("_messages", "_reader")

    def __init__(self) -> None:
        self._messages: deque[Message] | None = None
        self._reader: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        """Return whether no message waits here."""
        return self._messages is None

    def put_nowait(self, message: Message) -> None:
        """Add a message."""
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Message:
        """Return the oldest message, and remove it. Wait until there is one."""
        while self._messages is None:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        if not self._messages:
            self._messages = None
        return message
