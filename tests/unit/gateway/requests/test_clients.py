"""The transports of all kinds of clients."""

from __future__ import annotations

from gateway.http.session import HttpSession
from gateway.requests.clients import TRANSPORTS
from gateway.sockets.endpoint import Connection


def test_each_transport_has_its_kind_of_client() -> None:
    """Each kind of client has its own value of the metrics' label `transport`, and there is no other value."""
    assert [Connection.transport, HttpSession.transport] == list(TRANSPORTS)
