"""The user's conversations as the chat lists and shows them."""

from __future__ import annotations

from typing import TypeVar

from gateway.commands.options import format_table
from gateway.commands.terminal.screen import Screen, shown
from turnwire.client import ConversationRecord, Message
from turnwire.client.sync import Pages

LISTED_MAX = 15
SHOWN_MESSAGES_MAX = 20
TITLE_CHARS_MAX = 60

Item = TypeVar("Item")


def first_page(pages: Pages[Item]) -> list[Item]:
    """Return the items of the first page of a list."""
    return next(pages.pages(), [])


def conversation_table(records: list[ConversationRecord], current: str | None) -> list[str]:
    """Return a numbered line for each conversation; the `current` one has a star."""
    rows = [
        [
            f"{'*' if record.id == current else ' '}{number}",
            (record.updated_at or "")[:16].replace("T", " "),
            str(record.messages),
            shown(one_line(record.title)) or "(no title)",
        ]
        for number, record in enumerate(records, 1)
    ]
    return format_table([[" #", "CHANGED (UTC)", "MESSAGES", "TITLE"], *rows])


def one_line(text: str) -> str:
    """Return the beginning of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARS_MAX else f"{line[: TITLE_CHARS_MAX - 1]}…"


def branch(messages: list[Message], head: str | None) -> list[Message]:
    """Return the messages from the first to `head`, of a tree of messages."""
    by_id = {message.id: message for message in messages}
    found: list[Message] = []
    at = head
    while at is not None and (message := by_id.pop(at, None)) is not None:
        found.append(message)
        at = message.parent
    return found[::-1]


def show_messages(screen: Screen, messages: list[Message]) -> None:
    """Write the last messages as they looked in the chat."""
    if left_out := len(messages) - SHOWN_MESSAGES_MAX:
        if left_out > 0:
            screen.note(f"({left_out} earlier messages)")
    for message in messages[-SHOWN_MESSAGES_MAX:]:
        if message.role == "user":
            screen.line(f"> {message.text}")
        elif message.role == "assistant":
            show_answer(screen, message)


def show_answer(screen: Screen, message: Message) -> None:
    """Write a stored answer."""
    for part in message.parts:
        if part.kind in {"text", "refusal"}:
            screen.text(part.text or "")
        elif part.kind == "tool_call":
            screen.note(f"tool call: {part.name} {part.arguments}")
        elif part.kind == "image":
            screen.note(f"image ({part.media_type}): {part.url or ''}")
        elif part.kind == "citation":
            screen.note(f"source: {': '.join(filter(None, (part.title, part.url)))}")
    screen.end_line()
    if message.status == "cancelled":
        screen.note("Stopped.")
    elif message.status == "failed" and message.error is not None:
        screen.alert(message.error.message)
