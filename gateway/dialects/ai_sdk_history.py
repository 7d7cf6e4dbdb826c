"""The history of a chat of the AI SDK: which stored messages are which UI messages. No I/O.

A UI message of the assistant has one step for each turn. The first step answers a message of the user, and each later one
answers the results of tools. The id of the UI message is that of its first turn.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from gateway.dialects.ai_sdk_parts import ui_parts
from gateway.dialects.kept_history import KeptHistory
from gateway.protocol.events import Message
from providers.base import ToolResultPart

METADATA: Final = "ai_sdk"
"""The key in the metadata of an input message under which its origin is stored."""


class Origin(Struct, frozen=True):
    """The UI message from which an input was made, and the digest of the input."""

    message: str
    digest: str = ""


def origin_of(message: Message) -> Origin | None:
    """Return the origin of an input message, or None if another client has sent it."""
    found = (message.metadata or {}).get(METADATA)
    if not isinstance(found, dict) or not isinstance(found.get("message"), str):
        return None
    return Origin(found["message"], str(found.get("digest", "")))


class ChatHistory(KeptHistory):
    """The newest stored messages of a chat."""

    def ui_id(self, message: Message) -> str:
        """Return the id of the UI message that a stored message belongs to."""
        if message.role == "assistant":
            parent = self._by_id.get(message.parent or "")
            if parent is not None and parent.role == "tool" and (origin := origin_of(parent)) is not None:
                return origin.message
            return message.turn or message.id
        origin = origin_of(message)
        return message.id if origin is None or not origin.message else origin.message

    def last_answer(self, ui_id: str | None) -> str | None:
        """Return the id of the newest step of the UI message with this id, if it is stored."""
        if not ui_id:
            return None
        return next((one.id for one in self._newest() if one.role == "assistant" and self.ui_id(one) == ui_id), None)

    def user_message(self, ui_id: str) -> Message | None:
        """Return the newest version of the user's message with this id."""
        return next((one for one in self._newest() if one.role == "user" and self.ui_id(one) == ui_id), None)

    def question_of(self, ui_id: str | None) -> Message | None:
        """Return the user's message that a UI message answers; without an id, the newest user's message."""
        if ui_id is None:
            return next((one for one in self._newest() if one.role == "user"), None)
        found = self._by_id.get(self.last_answer(ui_id) or "")
        while found is not None and found.role != "user":
            found = self._by_id.get(found.parent or "")
        return found

    def answers_to(self, ui_id: str) -> int:
        """Return the number of stored answers to all versions of the user's message with this id."""
        asked = {one.id for one in self.messages if one.role == "user" and self.ui_id(one) == ui_id}
        return sum(one.parent in asked and one.role == "assistant" for one in self.messages)

    def awaits_step(self, answer: str) -> bool:
        """Return whether the newest message has the results of this answer's tools, so that the next step is running."""
        newest = self.messages[-1] if self.messages else None
        return newest is not None and newest.role == "tool" and newest.parent == answer

    def ui_messages(self, head: str | None) -> list[dict[str, Any]]:
        """Return the branch that ends at `head` as UI messages."""
        shown: list[dict[str, Any]] = []
        path = self.path_to(head)
        for n, message in enumerate(path):
            if message.role == "tool" or not message.parts:
                continue
            following = path[n + 1] if n + 1 < len(path) else None
            parts = ui_parts(message.parts, results_of(following), f"{message.turn}-")
            if message.role != "assistant":
                shown.append({"id": self.ui_id(message), "role": message.role, "parts": parts})
                continue
            if not (shown and shown[-1]["role"] == "assistant" and shown[-1]["id"] == self.ui_id(message)):
                shown.append({"id": self.ui_id(message), "role": "assistant", "parts": []})
            shown[-1]["parts"] += [{"type": "step-start"}, *parts]
        return shown

    def earlier_chunks(self, parent: str | None) -> list[dict[str, Any]]:
        """Return the chunks of the steps before an answer to `parent`, if `parent` has the results of tools."""
        path = self.path_to(parent)
        chunks: list[dict[str, Any]] = []
        while len(path) > 1 and path[-1].role == "tool" and path[-2].role == "assistant":
            parts = ui_parts(path[-2].parts, results_of(path[-1]), f"{path[-2].turn}-")
            step = [chunk for n, part in enumerate(parts) for chunk in _chunks_of(part, f"{len(path)}-{n}")]
            chunks = [{"type": "start-step"}, *step, {"type": "finish-step"}, *chunks]
            path = path[:-2]
        return chunks


def results_of(message: Message | None) -> dict[str, ToolResultPart]:
    """Return the results of tools in a message, by call id."""
    parts = () if message is None else message.parts
    return {part.call: part for part in parts if isinstance(part, ToolResultPart)}


def _chunks_of(part: dict[str, Any], part_id: str) -> list[dict[str, Any]]:
    """Return the chunks that make a whole part."""
    kind: str = part["type"]
    if kind in {"text", "reasoning"}:
        return [
            {"type": f"{kind}-start", "id": part_id},
            {"type": f"{kind}-delta", "id": part_id, "delta": part["text"]},
            {"type": f"{kind}-end", "id": part_id},
        ]
    if not kind.startswith("tool-"):
        return [part]
    call = {"toolCallId": part["toolCallId"]}
    named = {**call, "toolName": kind.removeprefix("tool-"), "input": part["input"]}
    chunks: list[dict[str, Any]] = [{"type": "tool-input-available", **named}]
    if "output" in part:
        chunks.append({"type": "tool-output-available", **call, "output": part["output"]})
    elif "errorText" in part:
        chunks.append({"type": "tool-output-error", **call, "errorText": part["errorText"]})
    return chunks
