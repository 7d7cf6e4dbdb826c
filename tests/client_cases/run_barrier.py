"""A barrier at which runs wait for each other before a gateway is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class RunBarrier:
    """A barrier for `runs` runs. When each of them has arrived or left, `act` is called once, and all go on."""

    def __init__(self, runs: int, act: Callable[[], Awaitable[None]]) -> None:
        self._missing = runs
        self._act = act
        self._done = asyncio.Event()
        self._known: set[object] = set()

    async def arrive(self, run: object) -> None:
        """Wait until all other runs have arrived or left, and `act` is done."""
        await self._count(run)
        await self._done.wait()

    async def leave(self, run: object) -> None:
        """Don't make the others wait for this run, because it has ended. Do nothing if it has arrived or left before."""
        if run not in self._known:
            await self._count(run)

    async def _count(self, run: object) -> None:
        self._known.add(run)
        self._missing -= 1
        if self._missing == 0:
            await self._act()
            self._done.set()
