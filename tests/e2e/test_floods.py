"""While one user sends a flood of requests, each type in turn, other users' requests are answered as fast as before (law 11)."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, client
from tests.credentials import SECRET, bearer, token
from tests.floods import REQUESTS
from tests.gateway_process import GatewayProcess, gateway_process
from tests.redis_process import redis_process
from tests.run_queue import RunQueue

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SETTINGS = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_LOG_LEVEL": "error"}
FLOOR_S = 0.015
"""What is asserted is twice what it takes beside, and never less than this: a shared machine has pauses of its own."""
ROUNDS = 8
"""Of which one has to hold: what else runs on the machine must not decide."""
USERS, REQUESTS_EACH, EVERY_S = 5, 5, 0.06
SHORT = {"input": "x", "params": {"demo": {"rate": 0, "tokens": 5}}}

numbers = itertools.count()


class Quiet:
    """Some users of one gateway who behave, each with a conversation that has a turn."""

    def __init__(self, processes: list[int], clients: list[Client]) -> None:
        self._processes = processes
        self._clients = clients
        self._places: list[tuple[str, str]] = []

    async def settle(self) -> None:
        """Begin each user's conversation."""
        for c in self._clients:
            turn = f"q{next(numbers)}"
            placed = await c.request("turn.start", turn=turn, **SHORT)
            await c.ending(turn)
            self._places.append((turn, placed["conversation"]))

    async def p99_s(self) -> float:
        """Of what their requests take; what the machine kept the processes waiting for a core doesn't count."""
        queue = RunQueue(*self._processes, os.getpid())
        try:
            took = await asyncio.gather(*(self._ask(n, queue) for n in range(len(self._clients))))
        finally:
            queue.close()
        every = sorted(itertools.chain.from_iterable(took))
        return every[int(len(every) * 0.99)]

    async def _ask(self, which: int, queue: RunQueue) -> list[float]:
        c, (turn, conversation) = self._clients[which], self._places[which]
        asked: list[tuple[str, dict[str, Any]]] = [
            ("conversation.get", {"conversation": conversation}),
            ("turn.get", {"turn": turn}),
            ("turn.start", SHORT),
            ("conversation.messages", {"conversation": conversation}),
            ("turn.cancel", {"turn": turn}),
        ]
        took = []
        await asyncio.sleep(which * EVERY_S / USERS)
        for number in range(REQUESTS_EACH):
            kind, fields = asked[number % len(asked)]
            began = queue.sample()
            await c.request(kind, **fields)
            ended = queue.sample()
            took.append(ended - began - queue.waited_s(began, ended))
            await asyncio.sleep(EVERY_S)
        return took


@asynccontextmanager
async def quiet(folder: Path, store: str) -> AsyncIterator[tuple[GatewayProcess, Quiet]]:
    """A gateway, and those of its users who behave."""
    folder.mkdir()
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_process(folder / "redis")) if store == "redis" else None
        gateway = await stack.enter_async_context(gateway_process(folder, SETTINGS, store=redis.url if redis else None))
        clients = [
            await stack.enter_async_context(client(gateway.ws_url, additional_headers=bearer(token(f"ann{n}"))))
            for n in range(USERS)
        ]
        users = Quiet([gateway.process.pid, *([redis.pid] if redis else [])], clients)
        await users.settle()
        yield gateway, users


@asynccontextmanager
async def flooding(gateway: GatewayProcess) -> AsyncIterator[asyncio.subprocess.Process]:
    """The attacker, which waits to be told to go on to the next type of request."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "tests.floods", "requests", gateway.url, token("eve"))
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


@pytest.mark.timed
@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_law_11_a_flood_of_any_request_leaves_others_alone(store: str, tmp_path: Path) -> None:
    """Their p99 is at most twice that of users of a gateway beside it that nobody floods, at the same time."""
    async with (
        quiet(tmp_path / "loud", store) as (gateway, loud),
        quiet(tmp_path / "beside", store) as (_, beside),
        flooding(gateway) as attacker,
    ):
        assert attacker.stdout is not None
        assert attacker.stdin is not None
        slow: dict[str, list[tuple[float, float]]] = {}
        for name in REQUESTS:
            assert (await attacker.stdout.readline()).decode().strip() == name
            measured = []
            for _ in range(ROUNDS):
                flooded_s, quiet_s = await asyncio.gather(loud.p99_s(), beside.p99_s())
                measured.append((round(quiet_s, 4), round(flooded_s, 4)))
                if flooded_s <= max(2 * quiet_s, FLOOR_S):
                    break
            else:
                slow[name] = measured
            attacker.stdin.write(b"\n")
        assert not slow, "p99 quiet and flooded, in seconds"
        written = "".join(gateway.log)
        assert "Traceback" not in written, written[written.index("Traceback") :][:4000]
