"""An open socket keeps nothing that only its opening needed."""

from __future__ import annotations

import gc
from types import CoroutineType

from gateway.transport.uvicorn_websocket import BoundedWebSocket
from tests.client import client
from tests.in_loop_server import serving

HEADERS = {f"x-{n}": "y" for n in range(10)}


def running() -> set[str]:
    """Return the names of the coroutines that exist now."""
    return {found.__qualname__ for found in gc.get_objects() if isinstance(found, CoroutineType)}


async def test_an_open_socket_keeps_nothing_of_its_opening() -> None:
    """The middleware has returned, and the headers, the scope and the timer are freed. The socket works, and its end is seen."""
    async with serving() as server:
        async with client(server.ws_url, additional_headers=HEADERS) as c:
            assert await c.request("ping", t=1) == {"t": 1}
            (socket,) = server.server.server_state.connections
            assert isinstance(socket, BoundedWebSocket)
            assert not {"RequestIds.__call__", "Starlette.__call__", "WebSocketEndpoint.__call__"} & running()
            assert "Connection.serve" in running()
            assert not list(socket.request.headers)
            assert not list(socket.response.headers)
            assert not socket.scope
            assert socket._opening_timer is None
            (connection,) = server.gateway.services.clients.all()
        await connection.finished.wait()
        assert not server.gateway.services.clients.all()
