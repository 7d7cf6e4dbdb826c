"""The codecs of the Python client."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from turnwire.client import UnknownEvent
from turnwire.client.codecs import JSON, MSGPACK, whole_text


def test_frames_in_both_codecs() -> None:
    """Unknown types are kept, and unknown fields are ignored. A value that isn't a frame raises `DecodeError`."""
    for codec in (JSON, MSGPACK):
        frame = codec.decode(
            codec.encode({"type": "turn.delta", "turn": "t", "seq": 3, "part": 0, "as": "ann", "new": {}})
        )
        assert (frame.type, frame.user) == ("turn.delta", "ann")
        unknown = codec.decode(codec.encode({"type": "turn.new", "turn": "t", "seq": 3, "after": 1, "x": [1]}))
        assert isinstance(unknown, UnknownEvent)
        assert (unknown.turn, unknown.seq, unknown.after, unknown.fields["x"]) == ("t", 3, 1, [1])
        malformed = codec.decode(codec.encode({"type": "turn.delta", "turn": "t", "seq": "three"}))
        assert isinstance(malformed, UnknownEvent)
        junks: list[Any] = [[], {"type": 7}, {}, "x", None]
        for junk in junks:
            with pytest.raises(msgspec.DecodeError):
                codec.decode(codec.encode(junk))
        assert codec.decode_any(codec.encode({"a": "half \ud83d", "b": ["\udc00"]})) == {
            "a": "half \ufffd",
            "b": ["\ufffd"],
        }
    with pytest.raises(msgspec.DecodeError):
        JSON.decode(b"{")
    assert whole_text("\ud83d\ude00") == "😀"
