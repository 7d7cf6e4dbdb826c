"""A TCP proxy on loopback that can refuse connections, hang, and delay what it relays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.tcp_listener import listening


class FaultProxy:
    """A proxy in front of the server at `target_port`. Clients connect to `port`.

    `delay_s`: how long each piece of data waits, in both directions.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._passes = asyncio.Event()
        self._passes.set()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.delay_s = 0.0
        self.port = 0

    def refuse(self) -> None:
        """Abort all connections, and each new one at once."""
        self._refuses = True
        for writer in self._writers:
            writer.transport.abort()

    def hang(self) -> None:
        """Keep connections open and accept new ones, but relay nothing."""
        self._passes.clear()

    def restore(self) -> None:
        """Relay again, without a delay. What waited while it hung is relayed now."""
        self._refuses = False
        self.delay_s = 0.0
        self._passes.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            return
        await self._passes.wait()
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers.add(to_server)
        relays = [
            asyncio.ensure_future(self._relay(reader, to_server)),
            asyncio.ensure_future(self._relay(from_server, writer)),
        ]
        try:
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)
            to_server.transport.abort()
            self._writers.discard(to_server)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._passes.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def fault_proxy(target_port: int) -> AsyncIterator[FaultProxy]:
    """Start a proxy. On exit, close it."""
    proxy = FaultProxy(target_port)
    async with listening(proxy.serve) as proxy.port:
        yield proxy
