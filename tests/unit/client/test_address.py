"""The address of a gateway, and what can't be one."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from turnwire.client import InvalidUrl, TurnwireError, connect
from turnwire.client.address import address_of


@pytest.mark.parametrize(
    ("url", "socket", "base"),
    [
        ("ws://h:1/ws", "ws://h:1/ws", "http://h:1"),
        ("http://h", "ws://h/ws", "http://h"),
        ("https://h/", "wss://h/ws", "https://h"),
        ("wss://h", "wss://h/ws", "https://h"),
        ("https://h/chat", "wss://h/chat/ws", "https://h/chat"),
        ("https://h/chat/ws", "wss://h/chat/ws", "https://h/chat"),
        ("wss://h/socket", "wss://h/socket", "https://h"),
        ("ws://[::1]:8000/ws?user_id=x", "ws://[::1]:8000/ws?user_id=x", "http://[::1]:8000"),
        ("WSS://H/ws", "wss://H/ws", "https://H"),
    ],
)
def test_addresses(url: str, socket: str, base: str) -> None:
    """The socket's URL and the base of the HTTP API follow from any of the usual forms."""
    address = address_of(url)
    assert (address.socket, address.base) == (socket, base)


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000", "ftp://h/ws", "ws://", "ws:///ws", "ws://h:port/ws", "ws://h:99999/ws", "ws://[::1/ws"),
        *("ws://h/ws#a", "ws://ann:pw@h/ws", "ws://h/ws?token=x", "ws://h/w s", "ws://hä/ws", None, 7, b"ws://h"),
    ],
)
def test_what_is_not_a_url(url: Any) -> None:
    """The error is raised by `connect` itself, is a sentence, and never shows a credential."""
    with pytest.raises(InvalidUrl) as raised:
        connect(url)
    assert raised.value.code == "invalid_url"
    assert str(raised.value).endswith(".")
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"codec": "xml"},
        {"transport": "carrier pigeon"},
        {"token": "a", "ticket": "b"},
        {"ticket": "b", "transport": "http"},
        {"ssl": ssl.create_default_context()},
        {"headers": {"X-Name": "a\r\nX-Other: b"}},
        {"headers": {"X-Name": "é"}},
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any]) -> None:
    """Each is named at once."""
    with pytest.raises(TurnwireError) as raised:
        connect("ws://h", **options)
    assert raised.value.code == "invalid_option"
