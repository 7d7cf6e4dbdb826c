"""Tests of `check_start`: which `turn.start` requests it refuses, and which path the error names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart
from gateway.protocol.validation import check_start

TYPED = {"type": "object"}
TOOL = {"name": "clock", "parameters": {"type": "object"}}


TEXT = [{"kind": "text", "text": "x"}]


def call(call_id: str, name: str) -> dict[str, str]:
    return {"kind": "tool_call", "call": call_id, "name": name, "arguments": "{}"}


def result(call_id: str) -> dict[str, str]:
    return {"kind": "tool_result", "call": call_id, "output": ""}


CALL = {"role": "assistant", "parts": [call("c", "f")]}
RESULT = {"role": "tool", "parts": [result("c")]}


def image(url: str) -> dict[str, str]:
    return {"kind": "image", "media_type": "image/png", "url": url}


def start(**fields: Any) -> TurnStart:
    """Return a request with these fields, and with an input if it has no messages."""
    content = {} if "messages" in fields else {"input": "x"}
    return msgspec.convert({"type": "turn.start", **content, **fields}, TurnStart)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"input": [{"kind": "text", "text": ""}]}, "input"),
        ({"input": [{"kind": "image", "media_type": "image/png"}]}, "input[0]"),
        ({"input": [{"kind": "image", "media_type": "image/png", "data": "eA==", "url": "https://x"}]}, "input[0]"),
        ({"input": [{"kind": "image", "media_type": "image/png", "data": "!!!"}]}, "input[0].data"),
        ({"input": [{"kind": "file", "media_type": "text/plain", "data": ""}]}, "input[0].data"),
        ({"messages": [{"role": "user", "parts": []}]}, "messages[0].parts"),
        ({"tools": [{"name": "a", "parameters": {"type": "string"}}]}, "tools[0].parameters"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [TOOL], "tool_choice": {"name": "other"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"input": [{"kind": "image", "media_type": "image/png", "url": "file:///etc/passwd"}]}, "input[0].url"),
        (
            {"tools": [{"name": "a", "parameters": {"type": "object", "properties": []}}]},
            "tools[0].parameters.properties",
        ),
        ({"tools": [{"name": "a", "parameters": TYPED | {"required": "x"}}]}, "tools[0].parameters.required"),
        (
            {"tools": [{"name": "a", "parameters": TYPED | {"properties": {"x": 5}}}]},
            "tools[0].parameters.properties.x",
        ),
        (
            {"tools": [{"name": "a", "parameters": TYPED | {"properties": {"x": {"type": "array", "items": "y"}}}}]},
            "tools[0].parameters.properties.x.items",
        ),
        (
            {"tools": [{"name": "a", "parameters": TYPED | {"properties": {"x": {"type": 5}}}}]},
            "tools[0].parameters.properties.x.type",
        ),
        (
            {"tools": [{"name": "a", "parameters": TYPED | {"properties": {"x": {"type": ["null", "strin"]}}}}]},
            "tools[0].parameters.properties.x.type",
        ),
        ({"input": [{"kind": "image", "media_type": "text/html", "data": "eA=="}]}, "input[0].media_type"),
        ({"input": [image("data:text/html;base64,eA==")]}, "input[0].url"),
        ({"input": [image("data:image/svg+xml,<svg/>")]}, "input[0].url"),
        ({"input": [image("data:;base64,eA==")]}, "input[0].url"),
        ({"input": [image("data:image/png;base64,!!!")]}, "input[0].url"),
        ({"messages": [RESULT]}, "messages"),
        ({"input": [result("c\x1b[2J")]}, "input[0].call"),
        ({"messages": [{"role": "user", "parts": [result("\u202ec")]}]}, "messages[0].parts[0].call"),
        ({"messages": [{"role": "assistant", "parts": [call("c\n", "f")]}]}, "messages[0].parts[0].call"),
        ({"messages": [{"role": "assistant", "parts": [call("c", "f\x07")]}]}, "messages[0].parts[0].name"),
        ({"messages": [CALL, {"role": "user", "parts": TEXT}, RESULT]}, "messages"),
        ({"messages": [CALL, RESULT, {"role": "assistant", "parts": TEXT}, RESULT]}, "messages"),
    ],
)
def test_invalid_requests_are_refused(fields: dict[str, Any], path: str) -> None:
    """A part without content or a tool that can't be called, for example, is refused with its path."""
    with pytest.raises(ApiError) as refused:
        check_start(start(**fields), 1000)
    assert (refused.value.code, refused.value.body.path) == ("invalid_request", path)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "Hello"},
        {"input": [{"kind": "text", "text": ""}, {"kind": "image", "media_type": "image/png", "data": "eA=="}]},
        {"input": [{"kind": "image", "media_type": "image/png", "url": "https://x/y.png"}]},
        {"input": [result("c")]},
        {"input": "x", "tools": [TOOL], "tool_choice": {"name": "clock"}},
        {"input": "x", "tools": [{"name": "bare"}], "tool_choice": "required"},
        {"input": "x", "tools": [{"name": "any", "parameters": TYPED | {"properties": {"x": True, "y": {}}}}]},
        {"input": [image("data:image/png;base64,eA==")]},
        {"messages": [CALL, RESULT]},
        {"messages": [CALL, RESULT, RESULT]},
        {"messages": [CALL, {"role": "user", "parts": TEXT}]},
    ],
)
def test_valid_requests_are_accepted(fields: dict[str, Any]) -> None:
    """The checks don't refuse what a provider can handle."""
    check_start(start(**fields), 1000)


BLANK_TEXTS = ["", " ", "\n\t \r\n", "\u00a0\u2003\u3000"]


@pytest.mark.parametrize("text", BLANK_TEXTS, ids=ascii)
def test_blank_content_is_refused_in_every_shape(text: str) -> None:
    """A provider would get an empty message, or none. White space is accepted only next to other content, or
    with a signature."""
    blank = [{"kind": kind, "text": text} for kind in ("text", "reasoning", "refusal", "citation")]
    shapes: list[tuple[dict[str, Any], str]] = [({"input": text}, "input"), ({"input": []}, "input")]
    shapes += [({"input": [part]}, "input") for part in blank]
    shapes += [({"input": blank}, "input"), ({"messages": [{"role": "user", "parts": blank}]}, "messages[0].parts")]
    shapes.append(
        (
            {"messages": [{"role": "user", "parts": TEXT}, {"role": "user", "parts": blank[:1]}]},
            "messages[1].parts",
        )
    )
    for fields, path in shapes:
        with pytest.raises(ApiError) as refused:
            check_start(start(**fields), 100)
        assert (refused.value.code, refused.value.body.path) == ("invalid_request", path), fields
    signed = {"kind": "reasoning", "text": text, "signature": "opaque"}
    for parts in ([*blank, *TEXT], [image("https://x"), *blank], [signed]):
        check_start(start(messages=[{"role": "user", "parts": parts}]), 100)
