"""Names and arguments of tool calls are made legal, and results are matched with their calls."""

from __future__ import annotations

import json
import re
import time

import pytest

from providers.base import ChatMessage, ToolCallPart, ToolResultPart
from providers.fit.calls import BROKEN_CHARS_MAX, drop_unanswered, legal_name, match_results, object_arguments
from providers.fit.ids import CallIdMaker
from providers.quirks import CallIds


@pytest.mark.parametrize("name", ["", ".", "get.weather", "n" * 10_000, "wetter in münchen", "-", "7 up", "a" * 65])
def test_an_invented_name_becomes_a_legal_one(name: str) -> None:
    """The same name always becomes the same legal one, and no other name becomes that one."""
    legal = legal_name(name)
    assert legal == legal_name(name) == legal_name(legal)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", legal)
    assert legal_name(name + "!") != legal


@pytest.mark.parametrize("name", ["weather", "A-b_9", "9", "a" * 64])
def test_a_legal_name_is_kept(name: str) -> None:
    """A name that every dialect takes isn't changed."""
    assert legal_name(name) == name


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"city":"Oslo"} ', '{"city":"Oslo"} '),
        ("", "{}"),
        ("null", "{}"),
        ('"{\\"city\\":\\"Oslo\\"}"', '{"city":"Oslo"}'),
        ('{"text":"once upon a ti', '{"arguments": "{\\"text\\":\\"once upon a ti"}'),
        ("[1]", '{"arguments": "[1]"}'),
        ('"text"', '{"arguments": "\\"text\\""}'),
        ('{"a":NaN}', '{"arguments": "{\\"a\\":NaN}"}'),
        ("false", '{"arguments": "false"}'),
    ],
)
def test_arguments_become_an_object(written: str, sent: str) -> None:
    """An object is kept as the model wrote it. Anything else becomes a field of a new object."""
    assert object_arguments(written) == sent


def test_broken_arguments_are_bounded() -> None:
    """Of megabytes of broken arguments, only the start goes back."""
    assert len(object_arguments('{"a":"' + "x" * 5_000_000)) < BROKEN_CHARS_MAX + 100
    assert isinstance(json.loads(object_arguments("[" * 1_000_000)), dict)


def test_of_two_results_the_later_one_is_kept() -> None:
    """The first result was sent to a turn that failed. With several calls of one id, their results keep their order."""
    calls = ChatMessage("assistant", tuple(ToolCallPart("c", "f", "{}") for _ in range(2)))
    results = [ChatMessage("tool", tuple(ToolResultPart("c", f"{n}{m}") for m in "ab")) for n in range(2)]
    assert match_results([calls, *results]) == {(0, 0): (2, 0), (0, 1): (2, 1)}
    assert drop_unanswered([calls, *results]) == (calls, results[1])


def test_one_result_for_two_calls_of_one_id_leaves_one_call() -> None:
    """A call without a result is dropped, also if its id is that of another call."""
    calls = (ToolCallPart("c", "f", "1"), ToolCallPart("c", "f", "2"))
    result = ChatMessage("tool", (ToolResultPart("c", "x"),))
    kept = drop_unanswered([ChatMessage("assistant", calls), result])
    assert kept == (ChatMessage("assistant", calls[:1]), result)


@pytest.mark.parametrize("form", ["short", "nine"])
def test_a_history_of_calls_with_one_id_takes_linear_time(form: CallIds) -> None:
    """Some hosts give every call the same id, over thousands of turns."""
    maker, start = CallIdMaker(form), time.process_time()
    assert len({maker.next("call_0", "f") for _ in range(20_000)}) == 20_000
    assert time.process_time() - start < 5
