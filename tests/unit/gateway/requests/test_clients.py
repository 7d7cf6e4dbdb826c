"""Every kind of client says the same of itself."""

from __future__ import annotations

from gateway.http.session import HttpSession
from gateway.requests.clients import TRANSPORTS
from gateway.sockets.endpoint import Connection


def test_each_transport_has_its_kind_of_client() -> None:
    """A metric's label for each, and none beside them."""
    assert [Connection.transport, HttpSession.transport] == list(TRANSPORTS)
