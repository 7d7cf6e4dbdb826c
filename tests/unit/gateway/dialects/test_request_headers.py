"""Tests of the headers that requests of all dialects may have."""

from __future__ import annotations

import pytest

from gateway.dialects.request_headers import on_disconnect, turn_id
from gateway.protocol.errors import ApiError


def test_the_id_of_a_turn() -> None:
    assert turn_id({}, "chatcmpl-") != turn_id({}, "chatcmpl-")
    assert turn_id({"turnwire-turn": "mine"}, "chatcmpl-") == "mine"


def test_on_disconnect() -> None:
    assert on_disconnect({}, "cancel") == "cancel"
    assert on_disconnect({"turnwire-on-disconnect": "continue"}, "cancel") == "continue"
    with pytest.raises(ApiError) as refused:
        on_disconnect({"turnwire-on-disconnect": "x"}, "cancel")
    assert refused.value.body.path == "Turnwire-On-Disconnect"
