"""Assembling the tool calls of a chat stream from incomplete pieces."""

from __future__ import annotations

from typing import Any

import pytest

from providers.delta_buffer import DeltaBuffer
from providers.openai.tool_calls import ToolCallAssembler
from tests.answers import Answer

Piece = tuple[int | None, str, str, str]
"""Index, id, name, arguments."""


def assemble(*pieces: Piece) -> list[tuple[str, str, str]]:
    """Return the id, name and arguments of the calls that these pieces make up."""
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
        ([(0, "a", "f", "{}"), (0, "a", "f", '{"x":1}')], [("a", "f", '{"x":1}')]),
        ([(0, "a", "f", " { "), (0, "", "", '} {"x'), (0, "", "", '":1}')], [("a", "f", '{"x":1}')]),
        ([(0, "a", "f", "null"), (0, "", "f", '{"x":1}')], [("a", "f", '{"x":1}')]),
        ([(0, "a", "f", '{"x":1}'), (0, "a", "f", '{"x": 1}')], [("a", "f", '{"x":1}')]),
        ([(0, "a", "f", '"{\\"x'), (0, "", "", '\\":1}"')], [("a", "f", '{"x":1}')]),
        ([(None, "r1", "f", "{"), (None, "r2", "", "}")], [("r1", "f", "{}")]),
    ],
    ids=[
        "split name",
        "repeated name",
        "name without id",
        "late name",
        "late id and name",
        "no arguments",
        "random ids",
        "no name",
        "placeholder",
        "placeholder in pieces",
        "null",
        "repeated",
        "encoded twice",
        "random ids, no index",
    ],
)
def test_one_call(pieces: list[Piece], expected: list[tuple[str, str, str]]) -> None:
    """One call is one part with its whole name, however it is split. A call that never gets a name is dropped."""
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
    """Two calls stay separate, and each piece is assigned to its call."""
    assert assemble(*pieces) == [("a", "f", "{}"), ("b", "g", "{}")]


def test_calls_without_ids() -> None:
    """Google sends each call whole, without an id and with one index or none. A shared id is made unique."""
    for index in (0, None):
        calls = assemble((index, "", "f", '{"x":1}'), (index, "", "f", '{"x":2}'), (index, "", "g", "{}"))
        assert calls == [("call_0", "f", '{"x":1}'), ("call_1", "f", '{"x":2}'), ("call_2", "g", "{}")]
    assert assemble((0, "x", "f", "{}"), (1, "x", "g", "{}")) == [("x", "f", "{}"), ("x_call_1", "g", "{}")]


def test_signature_before_or_after_its_call() -> None:
    """A signature may come before the name is complete, or after everything else."""
    parts = DeltaBuffer()
    calls = ToolCallAssembler(parts)
    calls.add(0, "a", "f", "", "s1")
    calls.add(1, "b", "g", "{}", "")
    calls.add(1, "", "", "", "s2")
    answer: Any = Answer()
    answer.add(parts.drain())
    assert answer.signatures == {0: "s1", 1: "s2"}


def test_a_call_with_many_pieces() -> None:
    """Braces in a string don't end the arguments, and the length of a name is bounded."""
    pieces = ['{"x":"', *["}"] * 50, '\\\\"', '"', "}", "\n"]
    ((_, name, arguments),) = assemble(*[(0, "", "f", piece) for piece in pieces])
    assert (name, arguments) == ("f", "".join(pieces))
    ((_, name, _),) = assemble(*[(0, "c", "names", "")] * 2, (0, "c", "x" * 10_000, "{}"))
    assert len(name) == 1000


def test_calls_without_a_name_wait() -> None:
    """A tool call is held back until its name arrives. Of 100 calls only one gets a name, and only it becomes a part."""
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
