"""Law 7 for every two events A and B: a client that has received the events up to A resumes, at either instance, when
the turn has reached B."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, TurnView, client
from tests.demo import expected
from tests.in_time import TooLate, checks_time_limit
from tests.world import World, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TOKENS = 17
EVENTS = TOKENS + 3
"""`turn.started`, `turn.part`, the deltas, and the end event."""
PAIRS = sum(range(2, EVENTS + 2))
"""At event `n` of the turn a client may hold any position from 0 to `n`."""


@asynccontextmanager
async def sockets(w: World) -> AsyncIterator[list[list[Client]]]:
    """Open `PAIRS` connections to each instance, each for one attachment."""
    async with AsyncExitStack() as stack:
        slots = asyncio.Semaphore(20)

        async def connected(url: str, n: int) -> Client:
            async with slots:
                return await stack.enter_async_context(client(url, codec=("json", "msgpack")[n % 2]))

        yield [list(await asyncio.gather(*(connected(url, n) for n in range(PAIRS)))) for url in w.urls()]


async def attach_at_every_event(
    w: World, connections: list[list[Client]], turn: str, demo: dict[str, Any]
) -> list[tuple[Client, int, str]]:
    """Start the turn, and at each event attach at every position up to it, on every instance.

    Return the connections with their position and the id of their attach request.
    """
    idle: list[Iterator[Client]] = [iter(those) for those in connections]
    attached: list[tuple[Client, int, str]] = []
    async with client(w.urls()[0]) as first:
        await first.request("turn.start", turn=turn, input="Hello", params={"demo": demo})
        view = first.turns[turn]
        held = [TurnView()]
        while view.ended is None or len(held) <= len(view.frames):
            await first.until(lambda: len(view.frames) >= len(held))
            for frame in view.frames[len(held) - 1 :]:
                held.append(copy.deepcopy(held[-1]))
                held[-1].apply(frame)
            for those in idle:
                for position in held:
                    one = next(those)
                    one.resume(turn, copy.deepcopy(position))
                    at = {"epoch": position.epoch or 0, "seq": position.seq}
                    attached.append((one, position.seq, await one.send("turn.attach", positions={turn: at})))
    return attached


@checks_time_limit
async def test_law_7_every_lost_and_resumed_position(tmp_path: Path) -> None:
    """Laws 1, 2 and 7: a client that resumes from any position gets exactly the remaining events, without a reset.

    The events of one turn are logged one by one, those of the other several per entry.
    """
    turns = {"slow": {"rate": 5, "tokens": TOKENS}, "quick": {"rate": 100, "tokens": TOKENS}}
    async with world(tmp_path, TURNWIRE_FLUSH_MS="50") as w, sockets(w) as connections:
        for turn, demo in turns.items():
            attached = await attach_at_every_event(w, connections, turn, demo)
            if turn == "slow" and len(attached) <= 300:
                raise TooLate(f"Only {len(attached)} attachments: a stalled machine merges the events of a turn.")
            for one, seq, request in attached:
                answer = (await one.answer(request))["turns"][turn]
                assert answer["from"] == seq, answer
                view = one.turns[turn]
                if view.ended is None:
                    await one.ending(turn)
                assert (view.text(), view.seq, view.resets) == (expected("Hello", demo), EVENTS, 0)
