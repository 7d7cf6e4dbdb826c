"""Close a dead socket of a user that has reached its limit of connections, on this instance and on the others.

A network that goes away leaves sockets open that nobody uses. The regular pings find one only after 20 to 40 s, and until
then it would count against its user's limit.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import structlog

from gateway.requests.clients import Client, ClientRegistry
from gateway.tasks import spawn
from store.api import Store
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.limits")

SILENT_CLIENTS_CHANNEL = "connections"
"""The channel on which an instance asks the others to close a silent client of a user, as an encoded `(instance, user)`."""
ANSWER_S = 2.0
"""The time in which a client has to answer a ping."""
CLOSE_S = 0.5
"""The time in which the permit of a closed client becomes free on every instance."""

_decode = msgspec.msgpack.Decoder(tuple[str, str]).decode


class SilentClients:
    """The clients that don't answer a ping. `instance` is the id of this instance."""

    def __init__(self, instance: str, clients: ClientRegistry, store: Store, tasks: asyncio.TaskGroup) -> None:
        self._instance = instance
        self._clients = clients
        self._store = store
        self._tasks = tasks

    async def make_room(self, user: str, everywhere: bool) -> bool:
        """Close the one client of `user` that has been silent for longest and doesn't answer a ping in time.

        With `everywhere`, ask the other instances to do the same. Return whether a client may have been closed.
        """
        if everywhere:
            deadline_s = asyncio.get_running_loop().time() + ANSWER_S + CLOSE_S
            with suppress(StoreError):
                await self._store.publish(SILENT_CLIENTS_CHANNEL, msgspec.msgpack.encode((self._instance, user)))
        if await self._close_silent(user):
            return True
        if everywhere:
            await asyncio.sleep(max(0.0, deadline_s - asyncio.get_running_loop().time()))
        return everywhere

    def deliver(self, payload: bytes) -> None:
        """Close a silent client, because another instance has asked for it."""
        instance, user = _decode(payload)
        if instance != self._instance:
            spawn(self._tasks, self._close_asked(user))

    async def _close_asked(self, user: str) -> None:
        await self._close_silent(user)

    async def _close_silent(self, user: str) -> bool:
        for client in await self._find_silent(user):
            if client.drop():  # another caller may have closed it meanwhile
                log.info("silent connection closed in favor of a new one", connection=client.id, user=user)
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await client.finished.wait()
                return True
        return False

    async def _find_silent(self, user: str) -> list[Client]:
        """Return the clients that don't answer, the one that has been silent for longest first."""
        clients = self._clients.of(user)
        answers = await asyncio.gather(*(client.answers(ANSWER_S) for client in clients))
        silent = [client for client, is_alive in zip(clients, answers, strict=True) if not is_alive]
        return sorted(silent, key=lambda client: client.heard_s)
