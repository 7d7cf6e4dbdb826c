"""A TCP proxy on loopback that is as slow as a phone's network: round trips take long, and few bytes a second arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.tcp_listener import listening

_CHUNK_BYTES = 4_096


class SlowLine:
    """A proxy to the server at `target_port`. Clients connect to `port`.

    `round_trip_s` delays each piece of data by its half, and the first one of a connection by a whole one more, because
    the client's connection on loopback opens at once. All connections share `bytes_per_s` towards the client.
    """

    def __init__(self, target_port: int, round_trip_s: float, bytes_per_s: float) -> None:
        self._target_port = target_port
        self._round_trip_s = round_trip_s
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._refuses = False

    def close_connections(self, *, refuse: bool = False) -> None:
        """Close the open connections, so that the next request needs a new one. `refuse`: close new ones too."""
        self._refuses = refuse
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if self._refuses:
            writer.transport.abort()
            return
        self._writers.add(writer)
        opened_at = asyncio.get_running_loop().time() + self._round_trip_s
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._relay(reader, to_server, opened_at, is_shaped=False))
                tasks.create_task(self._relay(from_server, writer, opened_at, is_shaped=True))
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            to_server.transport.abort()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened_at: float, *, is_shaped: bool
    ) -> None:
        pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(pending, writer))
            data = b"?"
            while data:
                data = b""
                with suppress(OSError):
                    data = await reader.read(_CHUNK_BYTES)
                at = max(asyncio.get_running_loop().time(), opened_at)
                if is_shaped:
                    self._free_at = at = max(at, self._free_at) + len(data) / self._bytes_per_s
                pending.put_nowait((at + self._round_trip_s / 2, data))

    async def _write(self, pending: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """Write each piece when it is due. After an empty one, close the connection's other end."""
        while True:
            due, data = await pending.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            if not data or writer.transport.is_closing():
                writer.transport.close()
                return
            writer.write(data)


@asynccontextmanager
async def slow_line(target_port: int, round_trip_s: float, bytes_per_s: float) -> AsyncIterator[SlowLine]:
    """Run a slow line to a server on loopback."""
    line = SlowLine(target_port, round_trip_s, bytes_per_s)
    async with listening(line.serve) as line.port:
        yield line
