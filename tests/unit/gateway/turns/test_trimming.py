"""Trimming: which exchanges of a request are left out so that it fits the context window."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from gateway.protocol.requests import TurnStart
from gateway.turns.context import without_history
from gateway.turns.trimming import trim
from providers.base import ChatMessage, ChatRequest, ImagePart, TextPart, ToolResultPart


def sized_message(role: str, tokens: int) -> ChatMessage:
    """Return a message of about `tokens` tokens by the upper estimate."""
    return ChatMessage(cast("Any", role), (TextPart("abc" * tokens),))


TALK = (
    sized_message("user", 100),
    sized_message("assistant", 100),
    sized_message("user", 100),
    sized_message("assistant", 50),
    sized_message("tool", 20),
    sized_message("assistant", 50),
    sized_message("user", 100),
)


@pytest.mark.parametrize(
    ("window", "kept"),
    [(None, 7), (10_000, 7), (600, 5), (500, 5), (300, 1), (10, 1)],
)
def test_the_oldest_exchanges_are_trimmed_first(window: int | None, kept: int) -> None:
    """Whole exchanges are removed, with a tool's call and result together; the last exchange stays."""
    question = ChatRequest(model="m", messages=TALK, system="Be brief.")
    fitting = trim(question, window, 50)
    assert len(fitting.messages) == kept
    assert fitting.messages == TALK[7 - kept :]
    assert fitting.messages[0].role == "user"


def test_an_image_counts_against_the_window() -> None:
    """An image in an old exchange is estimated at a large number of tokens."""
    picture = ChatMessage("user", (ImagePart("image/png", data="eA=="),))
    question = ChatRequest(model="m", messages=(picture, sized_message("assistant", 10), sized_message("user", 10)))
    assert trim(question, 1000, 50).messages == question.messages[2:]
    assert trim(question, 3000, 50) is question


def test_a_result_is_not_separated_from_its_call() -> None:
    """An exchange begins with a user's question. A message with a tool result belongs to the exchange before it."""
    result = ChatMessage("user", (ToolResultPart("c", "abc" * 20), TextPart("and?")))
    talk = (
        sized_message("user", 100),
        sized_message("assistant", 50),
        result,
        sized_message("assistant", 50),
        sized_message("user", 100),
    )
    assert trim(ChatRequest(model="m", messages=talk), 320, 50).messages == talk[4:]


def test_exchanges_are_trimmed_in_steps() -> None:
    """While a conversation grows beyond the window, its first message stays the same for several turns. At least three
    quarters of what fits is kept, and what is kept fits."""
    window, free = 4000, 200
    room = window - free - 8
    starts = []
    talk: tuple[ChatMessage, ...] = ()
    for number in range(100):
        talk += (sized_message("user", 42 + number % 5),)
        kept = trim(ChatRequest(model="m", messages=talk), window, free).messages
        size = sum(len(cast("TextPart", message.parts[0]).text) // 3 + 8 for message in kept)
        assert size <= room
        if len(kept) < len(talk):
            assert size >= room * 3 // 4 - 100
        starts.append(len(talk) - len(kept))
        talk += (sized_message("assistant", 42),)
    assert starts == sorted(starts)
    trimmed = [start for start in starts if start]
    assert len(trimmed) > 50
    assert len(set(trimmed)) <= len(trimmed) / 8


def test_a_step_doesnt_drop_a_large_exchange() -> None:
    """A step ends before an exchange that is larger than the rest of the step, such as one with a long document."""
    talk = tuple(sized_message("user", tokens) for tokens in (50, 50, 700, 100, 100))
    kept = trim(ChatRequest(model="m", messages=talk), 1050, 50).messages
    assert kept == talk[2:]


def test_the_operators_prompt_takes_room_from_the_history() -> None:
    """A longer prompt of the operator leaves fewer exchanges of the conversation."""
    talk = tuple(sized_message(role, 100) for role in ("user", "assistant") * 4)
    kept = [
        len(trim(replace(without_history(TurnStart(input="x"), "u", prompt), messages=talk), 1000, 50).messages)
        for prompt in ("", "Obey." * 200)
    ]
    assert kept[0] > kept[1] > 0
