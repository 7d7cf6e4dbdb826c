"""The state of a chat: its model, its conversation, and the files that wait for the next message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from turnwire.client import TurnStarted


@dataclass
class ChatState:
    """`model` None: the conversation's model, else the gateway's. `conversation` None: the next message begins one.

    `default_model` is the gateway's. `listed` are the ids of the conversations that `/history` has listed, in its order.
    """

    default_model: str = ""
    model: str | None = None
    conversation: str | None = None
    system: str | None = None
    attached: list[dict[str, Any]] = field(default_factory=list)
    attached_names: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    answered_by: str | None = None

    def start_fields(self, text: str) -> dict[str, Any]:
        """Return the fields of the start of a turn with this message."""
        fields: dict[str, Any] = {"input": [*self.attached, {"kind": "text", "text": text}] if self.attached else text}
        if self.model is not None:
            fields["model"] = self.model
        if self.conversation is not None:
            fields["conversation"] = self.conversation
        elif self.system is not None:
            fields["system"] = self.system
        return fields

    def started(self, event: TurnStarted) -> None:
        """Take over the conversation of a turn. Its files were sent."""
        self.conversation = event.conversation
        self.answered_by = event.model
        self.detach()

    def open(self, conversation: str | None) -> None:
        """Continue with another conversation; None: with a new one."""
        self.conversation = conversation
        self.answered_by = None

    @property
    def attached_chars(self) -> int:
        """The length of the files that wait for the next message, as they are sent."""
        return sum(len(part.get("data") or part["text"]) for part in self.attached)

    def detach(self) -> None:
        """Forget the files that wait for the next message."""
        self.attached.clear()
        self.attached_names.clear()
