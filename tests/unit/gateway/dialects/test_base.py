"""Tests of what the dialects share."""

from __future__ import annotations

import re

import pytest

from gateway.dialects.base import checked, encode_sse, media_part, on_disconnect, own_id, turn_id
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import OWN_ID_PATTERN, TurnStart
from providers.base import FilePart, ImagePart, Params


def test_ids_of_turns() -> None:
    assert turn_id({}, "chatcmpl-") != turn_id({}, "chatcmpl-")
    assert turn_id({"turnwire-turn": "mine"}, "chatcmpl-") == "mine"
    for name in ("a b", "x" * 65, "..", "ü", "\ud800"):
        found = own_id("run-", name)
        assert found == own_id("run-", name)
        assert re.fullmatch(OWN_ID_PATTERN, found)
    assert own_id("r-", "a", "bc") != own_id("r-", "ab", "c")


def test_on_disconnect() -> None:
    assert on_disconnect({}, "cancel") == "cancel"
    assert on_disconnect({"turnwire-on-disconnect": "continue"}, "cancel") == "continue"
    with pytest.raises(ApiError) as refused:
        on_disconnect({"turnwire-on-disconnect": "x"}, "cancel")
    assert refused.value.body.path == "Turnwire-On-Disconnect"


def test_a_start_is_checked_as_if_it_came_in_a_frame() -> None:
    start = TurnStart(turn="t", input="Hi", params=Params(temperature=1.0))
    assert checked(start) == start
    with pytest.raises(ApiError) as refused:
        checked(TurnStart(turn="a b", input="Hi"), str.upper)
    assert refused.value.body.path == "TURN"
    with pytest.raises(ApiError) as refused:
        checked(TurnStart(input="Hi", params=Params(temperature=3.0)), lambda path: path.removeprefix("params."))
    assert refused.value.body.path == "temperature"


def test_addresses_of_media() -> None:
    assert media_part("data:image/PNG;base64,aGk=", "x", image=True) == ImagePart("image/png", data="aGk=")
    assert media_part("data:text/plain;charset=utf-8;base64,aGk=", "x", "a.txt") == FilePart(
        "text/plain", data="aGk=", name="a.txt"
    )
    assert media_part("https://a.example/b.webp?c", "x", image=True).media_type == "image/webp"
    assert media_part("https://a.example/b", "x", image=True).media_type == "image/jpeg"
    with pytest.raises(ApiError):
        media_part("data:image/png,hello", "x", image=True)


def test_server_sent_events() -> None:
    assert encode_sse({"a": "b\n"}) == b'data: {"a":"b\\n"}\n\n'
    assert encode_sse([1], "ping") == b"event: ping\ndata: [1]\n\n"
