"""A conversation, or the list of conversations, that a connection attaches to on every socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from turnwire.client.errors import TurnwireError
from turnwire.client.lifetime import reject, settle


class Watched:
    """What is attached. `conversation` is None for the list. `on_again` is called when another socket has attached it."""

    def __init__(self, user: str | None, conversation: str | None, on_again: Callable[[int], None]) -> None:
        self.user = user
        self.conversation = conversation
        self.wanted = False
        self._on_again = on_again
        self._answered = False
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def attach_type(self) -> str:
        """The request that attaches it."""
        return "conversations.attach" if self.conversation is None else "conversation.attach"

    @property
    def detach_type(self) -> str:
        """The request that detaches it."""
        return "conversations.detach" if self.conversation is None else "conversation.detach"

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of both requests."""
        return {} if self.conversation is None else {"conversation": self.conversation}

    async def answered(self) -> None:
        """Wait for the gateway's answer. Raise the TurnwireError if it refuses."""
        if not self._answered:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def on_attached(self, answer: dict[str, Any]) -> None:
        """The gateway has attached it."""
        if self._answered:
            self._on_again(answer.get("revision", 0))
        self._answered = True
        for waiter in self._take():
            settle(waiter, None)

    def on_refused(self, error: TurnwireError) -> None:
        """It can't be attached."""
        self.wanted = self._answered = False
        for waiter in self._take():
            reject(waiter, error)

    def detach(self) -> None:
        """It isn't wanted any more."""
        self.on_refused(TurnwireError("It was detached before the gateway answered.", code="withdrawn"))

    def _take(self) -> list[asyncio.Future[None]]:
        waiters, self._waiters = self._waiters, []
        return waiters
