"""Tool calls of a chat stream, whatever a host leaves out of their pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.delta_buffer import DeltaBuffer
from providers.openai.tool_calls import ToolCallAssembler, _Call
from tests.answers import Answer
from tests.examples import examples

Piece = tuple[int | None, str, str, str]
"""Index, id, name, arguments."""


def assemble(*pieces: Piece) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls that these pieces are."""
    answer, parts = Answer(), DeltaBuffer()
    calls = ToolCallAssembler(parts)
    for piece in pieces:
        calls.add(*piece, signature="")
        answer.add(parts.drain())
    calls.close()
    answer.add(parts.drain())
    assert bool(calls) == bool(answer.parts)
    return [(str(one.call), str(one.name), text) for one, (_, text) in zip(answer.started, answer.parts, strict=True)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, "a", "get_", ""), (0, "", "weather", ""), (0, "", "", "{}")], [("a", "get_weather", "{}")]),
        ([(0, "a", "f", ""), (0, "a", "f", "{"), (0, "a", "f", "}")], [("a", "f", "{}")]),
        ([(0, "a", "f", ""), (0, "", "f", '{"x"'), (0, "", "f", ":1}")], [("a", "f", '{"x":1}')]),
        ([(0, "a", "", "{"), (0, "", "f", "}")], [("a", "f", "{}")]),
        ([(0, "", "", "{"), (0, "a", "f", "}")], [("a", "f", "{}")]),
        ([(0, "a", "f", "")], [("a", "f", "{}")]),
        ([(0, "r1", "f", "{"), (0, "r2", "", '"x":1'), (0, "r3", "", "}")], [("r1", "f", '{"x":1}')]),
        ([(0, "a", "", "{}")], []),
    ],
    ids=["name in pieces", "name again", "name, no id", "late name", "late both", "no args", "random ids", "no name"],
)
def test_one_call(pieces: list[Piece], expected: list[tuple[str, str, str]]) -> None:
    """One call is one part with all of its name, however it is cut; one that never gets a name is none."""
    assert assemble(*pieces) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, "a", "f", ""), (1, "b", "g", ""), (0, "", "", "{}"), (1, "", "", "{}")],
        [(0, "a", "f", "{"), (1, "b", "g", "{"), (1, "", "", "}"), (0, "", "", "}")],
        [(3, "a", "f", "{}"), (1, "b", "g", "{}")],
        [(0, "a", "f", "{}"), (0, "b", "g", "{}")],
        [(0, "a", "f", ""), (0, "", "", "{}"), (0, "b", "g", ""), (0, "b", "", "{}")],
        [(0, "a", "f", "{"), (0, "b", "g", "{"), (0, "a", "", "}"), (0, "b", "", "}")],
        [(None, "a", "f", "{"), (None, "", "", "}"), (None, "b", "g", ""), (None, "", "", "{}")],
        [(None, "a", "f", "{"), (None, "b", "g", "{"), (None, "a", "", "}"), (None, "b", "", "}")],
        [(None, "a", "f", "{"), (0, "a", "", "}"), (None, "b", "g", "{"), (1, "", "", "}")],
    ],
    ids=[
        "interleaved",
        "crossed",
        "out of order",
        "one index",
        "one index, in pieces",
        "one index, by id",
        "no index",
        "no index, by id",
        "index later",
    ],
)
def test_two_calls(pieces: list[Piece]) -> None:
    """Two calls stay two, and each piece finds its own."""
    assert assemble(*pieces) == [("a", "f", "{}"), ("b", "g", "{}")]


def test_calls_without_ids() -> None:
    """Google's shape: every call whole, with one index or none, and no id; and an id that two calls share is made two."""
    for index in (0, None):
        calls = assemble((index, "", "f", '{"x":1}'), (index, "", "f", '{"x":2}'), (index, "", "g", "{}"))
        assert calls == [("call_0", "f", '{"x":1}'), ("call_1", "f", '{"x":2}'), ("call_2", "g", "{}")]
    assert assemble((0, "x", "f", "{}"), (1, "x", "g", "{}")) == [("x", "f", "{}"), ("x_call_1", "g", "{}")]


def test_a_signature_waits_for_its_call() -> None:
    """It may come before the name is whole, or behind everything."""
    parts = DeltaBuffer()
    calls = ToolCallAssembler(parts)
    calls.add(0, "a", "f", "", "s1")
    calls.add(1, "b", "g", "{}", "")
    calls.add(1, "", "", "", "s2")
    answer: Any = Answer()
    answer.add(parts.drain())
    assert answer.signatures == {0: "s1", 1: "s2"}


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


JSONS = st.recursive(
    st.one_of(st.none(), st.integers(), st.text('{}[]"\\\\, a', max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text('{}"\\\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
).map(json.dumps)
PIECES = st.lists(st.one_of(JSONS, st.text('{}[]"\\\\:, a', max_size=6)), max_size=4)


@settings(deadline=None, max_examples=examples(500))
@given(PIECES, st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_arguments_are_whole_when_they_are_an_object(texts: list[str], sizes: list[int]) -> None:
    """However they are cut, and whatever braces, quotes and backslashes stand in their texts."""
    text, call = "".join(texts), _Call(0, "c")
    for size in [*sizes, len(text) + 1]:
        if text:
            call.pieces.append(text[:size])
        text = text[size:]
        assert call.is_complete() is is_object("".join(call.pieces))


def test_a_call_of_many_pieces_is_one() -> None:
    """Braces in a text close nothing, and a name is no longer than names are."""
    pieces = ['{"x":"', *["}"] * 50, '\\\\"', '"', "}", "\n"]
    ((_, name, arguments),) = assemble(*[(0, "", "f", piece) for piece in pieces])
    assert (name, arguments) == ("f", "".join(pieces))
    ((_, name, _),) = assemble(*[(0, "c", "names", "")] * 2, (0, "c", "x" * 10_000, "{}"))
    assert len(name) == 1000


def test_many_calls_without_a_name() -> None:
    """They wait, and nobody looks at them again; one that gets its name late is a call."""
    parts = DeltaBuffer()
    calls = ToolCallAssembler(parts)
    for number in range(100):
        calls.add(number, f"c{number}", "", "{", "")
    calls.add(7, "", "f", "}", "")
    calls.close()
    assert len(calls.pending) == 99
    answer = Answer()
    answer.add(parts.drain())
    assert answer.parts == [("tool_call", "{}")]
