"""The shapes that travel between the gateway and the providers."""

from typing import Any

import msgspec
import pytest

from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Params,
    Part,
    ProviderError,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    Usage,
)

decode_part = msgspec.json.Decoder(Part, float_hook=float).decode

PARTS: list[tuple[Part, dict[str, Any]]] = [
    (TextPart("hi"), {"kind": "text", "text": "hi"}),
    (ReasoningPart("hm", signature="s"), {"kind": "reasoning", "text": "hm", "signature": "s"}),
    (ReasoningPart("", redacted=True), {"kind": "reasoning", "text": "", "redacted": True}),
    (ToolCallPart("c", "f", "{}"), {"kind": "tool_call", "call": "c", "name": "f", "arguments": "{}"}),
    (ToolResultPart("c", "o", True), {"kind": "tool_result", "call": "c", "output": "o", "error": True}),
    (ImagePart("image/png", url="u"), {"kind": "image", "media_type": "image/png", "url": "u"}),
    (FilePart("text/plain", data="aGk="), {"kind": "file", "media_type": "text/plain", "data": "aGk="}),
    (CitationPart(title="t"), {"kind": "citation", "title": "t"}),
    (RefusalPart("no"), {"kind": "refusal", "text": "no"}),
]


@pytest.mark.parametrize(("part", "wire"), PARTS)
def test_parts_are_the_wire(part: Part, wire: dict[str, Any]) -> None:
    """A part is on the wire exactly what the protocol's page says, and comes back as itself."""
    raw = msgspec.json.encode(part)
    assert msgspec.json.decode(raw) == wire
    assert decode_part(raw) == part


@pytest.mark.parametrize(
    "raw", [b'{"kind": "text", "text": "a", "colour": "red"}', b'{"kind": "smell"}', b'{"kind": "text"}']
)
def test_unknown_shapes_are_refused(raw: bytes) -> None:
    """A part with an unknown kind or field, or without a needed one, is refused."""
    with pytest.raises(msgspec.ValidationError):
        decode_part(raw)


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 3},
        {"top_p": -1},
        {"max_tokens": 0},
        {"stop": ["x"] * 17},
        {"reasoning": "huge"},
        {"x": 1},
    ],
)
def test_params_are_bounded(params: dict[str, Any]) -> None:
    """A parameter outside its range, or an unknown one, is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(params, Params)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "né"])
def test_tool_names(name: str) -> None:
    """A tool has a name that every provider takes."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": name}, Tool)


def test_usage_leaves_out_what_nobody_counted() -> None:
    """A count that a provider didn't give is absent, not zero."""
    assert msgspec.to_builtins(Usage(1, 2, cache_read_tokens=0)) == {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_tokens": 0,
    }


def test_error_shows_its_message_only() -> None:
    """What is printed of an error is our sentence, never the provider's detail."""
    error = ProviderError("upstream_error", "It failed: try again.", detail="host:443 said boo")
    assert str(error) == error.message == "It failed: try again."
    assert "boo" not in repr(error)
