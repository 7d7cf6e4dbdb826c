"""The types that are shared by the gateway and the providers."""

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
def test_parts_round_trip(part: Part, wire: dict[str, Any]) -> None:
    """A part is encoded exactly as `docs/protocol.md` specifies, and decoding returns the same part."""
    raw = msgspec.json.encode(part)
    assert msgspec.json.decode(raw) == wire
    assert decode_part(raw) == part


@pytest.mark.parametrize(
    "raw", [b'{"kind": "text", "text": "a", "color": "red"}', b'{"kind": "unknown"}', b'{"kind": "text"}']
)
def test_invalid_parts_are_rejected(raw: bytes) -> None:
    """A part with an unknown kind or field, or without a required field, is rejected."""
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
def test_invalid_params_are_rejected(params: dict[str, Any]) -> None:
    """A parameter that is out of range or unknown is rejected."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(params, Params)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "né"])
def test_invalid_tool_names_are_rejected(name: str) -> None:
    """A tool name is rejected if at least one provider would reject it."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": name}, Tool)


def test_usage_omits_missing_counts() -> None:
    """A count that the provider didn't report is absent, not zero."""
    assert msgspec.to_builtins(Usage(1, 2, cache_read_tokens=0)) == {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_tokens": 0,
    }


def test_error_prints_only_its_message() -> None:
    """Neither `str` nor `repr` of an error contains its `detail`."""
    error = ProviderError("upstream_error", "It failed: try again.", detail="host:443 refused")
    assert str(error) == error.message == "It failed: try again."
    assert "host" not in repr(error)
