"""Tests of what the dialects share."""

from __future__ import annotations

import pytest

from gateway.dialects.base import checked, encode_sse
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart
from providers.base import Params


def test_a_start_is_checked_as_if_it_came_in_a_frame() -> None:
    start = TurnStart(turn="t", input="Hi", params=Params(temperature=1.0))
    assert checked(start) == start
    with pytest.raises(ApiError) as refused:
        checked(TurnStart(turn="a b", input="Hi"), str.upper)
    assert refused.value.body.path == "TURN"
    with pytest.raises(ApiError) as refused:
        checked(TurnStart(input="Hi", params=Params(temperature=3.0)), lambda path: path.removeprefix("params."))
    assert refused.value.body.path == "temperature"


def test_server_sent_events() -> None:
    assert encode_sse({"a": "b\n"}) == b'data: {"a":"b\\n"}\n\n'
    assert encode_sse([1], "ping") == b"event: ping\ndata: [1]\n\n"
