"""Gateway processes that share a store, and that a test may kill and freeze."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.gateway_process import GatewayProcess, gateway_process
from tests.upstream import Upstream

LEASE_S = 1.5
SETTINGS = {"TURNWIRE_LEASE_S": str(LEASE_S), "TURNWIRE_DRAIN_S": "3", "TURNWIRE_DISCONNECT_GRACE_S": "1"}


class Instances:
    """The instances of a gateway. Clients connect to those in `urls()`.

    `hidden` has the numbers of the instances that clients must not connect to. `fault_at` is the monotonic time of the last
    fault in seconds.
    """

    def __init__(
        self, folder: Path, store_url: str, upstream: Upstream, stack: AsyncExitStack, settings: dict[str, str]
    ) -> None:
        self.folder = folder
        self.store_url = store_url
        self.upstream = upstream
        self.instances: list[GatewayProcess] = []
        self.hidden: set[int] = set()
        self.fault_at = -math.inf
        self._stack = stack
        self._settings = settings

    async def add(self, count: int = 1) -> GatewayProcess:
        """Start `count` instances concurrently, and return the last one."""
        async with asyncio.TaskGroup() as tasks:
            starting = [tasks.create_task(self._start()) for _ in range(count)]
        self.instances += [one.result() for one in starting]
        return self.instances[-1]

    async def _start(self) -> GatewayProcess:
        environment = {
            **SETTINGS,
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": self.upstream.openai_url,
            **self._settings,
        }
        return await self._stack.enter_async_context(
            gateway_process(self.folder, environment, store=self.store_url, allow_kill=True)
        )

    def urls(self) -> list[str]:
        """Return the WebSocket URLs of the instances that run and aren't hidden."""
        return [
            one.ws_url
            for n, one in enumerate(self.instances)
            if one.process.returncode is None and n not in self.hidden
        ]

    def record_fault(self) -> None:
        """Record that events which aren't logged yet may be lost now.

        So `World.check` accepts a reset of the turns that have started, and `owner_lost` for those that can't be continued.
        """
        self.fault_at = time.monotonic()

    def kill(self, number: int) -> None:
        """Kill the instance with SIGKILL, and hide it."""
        self.record_fault()
        self.instances[number].process.kill()
        self.hidden.add(number)

    def freeze(self, number: int) -> None:
        """Freeze the instance with SIGSTOP, and hide it."""
        self.instances[number].process.send_signal(signal.SIGSTOP)
        self.hidden.add(number)

    def thaw(self, number: int) -> None:
        """Let the instance continue, with SIGCONT, and hide it no longer."""
        self.record_fault()
        self.instances[number].process.send_signal(signal.SIGCONT)
        self.hidden.discard(number)
