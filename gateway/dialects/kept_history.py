"""The history that the gateway keeps for a dialect whose clients send all their messages each time. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.dialects.base import encode_json
from gateway.protocol.events import Message
from providers.base import Part, ToolCallPart, ToolResultPart

TRANSCRIPT_CHARS_MAX: Final = 60_000


class KeptHistory:
    """The newest stored messages of a conversation, the oldest first. `exists`: whether there is a conversation at all.

    `is_complete`: whether these are all of its messages.
    """

    def __init__(self, messages: Sequence[Message] = (), *, exists: bool = True, is_complete: bool = True) -> None:
        self.exists = exists
        self.is_complete = is_complete
        self.messages = list(messages)
        self._by_id = {message.id: message for message in messages}

    def has(self, message: str) -> bool:
        """Return whether the message with this id is known."""
        return message in self._by_id

    def _newest(self) -> Iterator[Message]:
        return reversed(self.messages)

    def input_of(self, turn: str | None) -> Message | None:
        """Return the input message of a turn."""
        return next((one for one in self._newest() if one.role != "assistant" and one.turn == turn), None)

    def unanswered(self, message: str, results: Sequence[ToolResultPart]) -> list[ToolResultPart]:
        """Return those results that answer a call of this stored message which has no result yet."""
        found = self._by_id.get(message)
        if found is None or any(one.parent == message and one.role == "tool" for one in self.messages):
            return []
        calls = {part.call for part in found.parts if isinstance(part, ToolCallPart)}
        return [result for result in results if result.call in calls]

    def message_with_call(self, call: str) -> str | None:
        """Return the id of the newest message that has this tool call."""
        return next(
            (
                one.id
                for one in self._newest()
                if any(isinstance(part, ToolCallPart) and part.call == call for part in one.parts)
            ),
            None,
        )

    def answers_below(self, message: str) -> int:
        """Return the number of stored answers to a message."""
        return sum(one.parent == message and one.role == "assistant" for one in self.messages)

    def path_to(self, message: str | None) -> list[Message]:
        """Return the known messages of the branch that ends at a message, the oldest first."""
        found: list[Message] = []
        while (one := self._by_id.get(message or "")) is not None and len(found) < len(self.messages):
            found.append(one)
            message = one.parent
        return found[::-1]


def digest_of(parts: Sequence[Part]) -> str:
    """Return a digest of parts, by which a repeated message is recognized."""
    return hashlib.sha256(encode_json(parts)).hexdigest()[:32]


def transcript(spoken: Sequence[tuple[str, str]], chars_max: int) -> str:
    """Return messages as part of a system prompt: the newest ones with at most `chars_max` characters; empty if none has text.

    Each of `spoken` is a role and a text.
    """
    lines: list[str] = []
    for role, text in reversed(spoken):
        if not text:
            continue
        chars_max -= len(text)
        if chars_max < 0:
            break
        lines.append(f"{role}: {text}")
    if not lines:
        return ""
    return "The conversation began with these messages:\n\n" + "\n\n".join(reversed(lines))
