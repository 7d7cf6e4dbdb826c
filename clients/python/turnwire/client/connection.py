"""The core of a `Gateway`: turns, requests and attachments over one transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnwire.client.abort import AbortSignal
from turnwire.client.callbacks import OnChunk, OnComplete, OnError
from turnwire.client.conversation import ConversationItem
from turnwire.client.events import GatewayEvent, UnknownEvent
from turnwire.client.options import ConnectionState, Options, Transport
from turnwire.client.records import CancelOutcome, Position
from turnwire.client.subscription import Subscription
from turnwire.client.turn import Turn


class Connection:
    """Made by `connect`."""

    transport: Transport
    default_model: str | None
    state: ConnectionState

    def __init__(self, options: Options) -> None:
        self.options = options

    async def open(self) -> None:
        raise NotImplementedError

    def running(self, user: str | None) -> list[Turn]:
        raise NotImplementedError

    def start(self, fields: dict[str, Any], user: str | None, signal: AbortSignal | None) -> Turn:
        raise NotImplementedError

    def report(
        self, turn: Turn, on_chunk: OnChunk | None, on_error: OnError | None, on_complete: OnComplete | None
    ) -> None:
        raise NotImplementedError

    def attach(self, turn: str, user: str | None, position: Position) -> Turn:
        raise NotImplementedError

    async def cancel(self, turns: Sequence[str], user: str | None, reason: str | None) -> dict[str, CancelOutcome]:
        raise NotImplementedError

    async def request(self, kind: str, fields: dict[str, Any], user: str | None) -> Any:
        raise NotImplementedError

    async def attach_list(self, user: str | None) -> None:
        raise NotImplementedError

    async def detach_list(self, user: str | None) -> None:
        raise NotImplementedError

    async def attach_conversation(self, conversation: str, user: str | None) -> None:
        raise NotImplementedError

    async def detach_conversation(self, conversation: str, user: str | None) -> None:
        raise NotImplementedError

    async def ping(self) -> float:
        raise NotImplementedError

    def subscribe(self) -> Subscription[GatewayEvent | ConnectionState | UnknownEvent]:
        raise NotImplementedError

    def subscribe_to(self, conversation: str, user: str | None) -> Subscription[ConversationItem]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
