"""One conversation: its record, its messages and its turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from turnwire.client.events import ConversationDeleted, ConversationUpdated
from turnwire.client.pages import Pages
from turnwire.client.records import CancelOutcome, ConversationRecord, Estimate, Message, UsageReport
from turnwire.client.subscription import Subscription

if TYPE_CHECKING:
    from turnwire.client.fields import Input
    from turnwire.client.gateway import Gateway
    from turnwire.client.turn import Turn

__all__ = ["Conversation", "ConversationItem", "Reattached"]


class Reattached(msgspec.Struct):
    """The conversation is attached again after a lost connection. Turns that began and ended in between aren't reported."""

    conversation: str
    revision: int


ConversationItem: TypeAlias = "Turn | ConversationUpdated | ConversationDeleted | Reattached"


class Conversation:
    """Made by `gateway.conversation(id)`, which sends nothing."""

    def __init__(self, gateway: Gateway, conversation: str) -> None:
        self.id = conversation
        self._gateway = gateway

    def start(self, input: Input | None = None, **fields: Any) -> Turn:
        """Start a turn in this conversation. It takes what `gateway.start` takes."""
        return self._gateway.start(input, conversation=self.id, **fields)

    async def run(self, input: Input | None = None, *, tools: Sequence[Any], **fields: Any) -> Message:
        """Answer tool calls until the model is done. It takes what `gateway.run` takes."""
        return await self._gateway.run(input, tools=tools, conversation=self.id, **fields)

    async def estimate(self, input: Input | None = None, **fields: Any) -> Estimate:
        """Return what a start would cost now."""
        return await self._gateway.estimate(input, conversation=self.id, **fields)

    async def get(self) -> ConversationRecord:
        """Return its record."""
        return msgspec.convert(await self._request("conversation.get"), ConversationRecord)

    async def update(
        self,
        *,
        title: str | None = None,
        system: str | None = None,
        model: str | None = None,
        metadata: dict[str, Any] | None = None,
        head: str | None = None,
        pinned: bool | None = None,
    ) -> ConversationRecord:
        """Change the given fields. A `system` of "" clears the system prompt."""
        fields = {
            "title": title,
            "system": system,
            "model": model,
            "metadata": metadata,
            "head": head,
            "pinned": pinned,
        }
        return msgspec.convert(await self._request("conversation.update", **fields), ConversationRecord)

    async def clear(self) -> None:
        """Let later turns start from an empty context. The history stays."""
        await self._request("conversation.clear")

    async def delete(self) -> None:
        """Delete it. Its running turns are cancelled first."""
        await self._request("conversation.delete")

    def messages(self, *, limit: int | None = None) -> Pages[Message]:
        """List the messages of all branches. Iteration runs from the newest to the oldest, `all()` the other way.

        `limit`: the messages of one page, 1 to 200.
        """

        async def fetch(before: str | None) -> tuple[list[Message], str | None]:
            answer = await self._request("conversation.messages", limit=limit, before=before)
            return msgspec.convert(answer["messages"][::-1], list[Message]), answer.get("next")

        return Pages(fetch, newest_first=False)

    async def cancel(self, reason: object = None) -> dict[str, CancelOutcome]:
        """Cancel its running turns, whoever started them. Return the outcome for each turn."""
        return await self._gateway._cancel_where({"conversation": self.id}, reason)

    async def usage(self, *, since: str | None = None) -> UsageReport:
        """Return the sums over its ended turns, since a time in RFC 3339 with an offset."""
        return msgspec.convert(await self._request("usage.get", since=since), UsageReport)

    async def attach(self) -> None:
        """Receive every turn of the conversation, whoever starts it, also after a lost connection. See `events`.

        Attach first and read the messages afterwards, so that nothing is missed. Needs a socket: over HTTP, it raises an
        error with the code `unsupported`.
        """
        await self._gateway._attach_conversation(self.id)

    async def detach(self) -> None:
        """Receive no later turns. Turns that are followed already continue."""
        await self._gateway._detach_conversation(self.id)

    def events(self) -> Subscription[ConversationItem]:
        """Iterate what happens while it is attached: a `Turn` that was started elsewhere, a change, its deletion."""
        return self._gateway._conversation_events(self.id)

    async def _request(self, kind: str, **fields: Any) -> Any:
        return await self._gateway.request(kind, conversation=self.id, **fields)
