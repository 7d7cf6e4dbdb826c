"""Law 7, every pair: a socket lost at any event and back at any later one, at the same instance or the other one."""

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
from tests.in_time import TooLate, bounds_a_time
from tests.world import World, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TOKENS = 17
EVENTS = TOKENS + 3
"""`turn.started`, `turn.part`, the deltas, the ending."""
PAIRS = sum(range(2, EVENTS + 2))
"""At event `n` of the turn one may have lost the socket at 0 … `n`."""


@asynccontextmanager
async def sockets(w: World) -> AsyncIterator[list[list[Client]]]:
    """So many connections to each instance that each attaches to a turn once."""
    async with AsyncExitStack() as stack:
        enough = asyncio.Semaphore(20)

        async def connected(url: str, n: int) -> Client:
            async with enough:
                return await stack.enter_async_context(client(url, codec=("json", "msgpack")[n % 2]))

        yield [list(await asyncio.gather(*(connected(url, n) for n in range(PAIRS)))) for url in w.urls()]


async def attach_at_every_event(
    w: World, made: list[list[Client]], turn: str, demo: dict[str, Any]
) -> list[tuple[Client, int, str]]:
    """Start the turn; at each of its events attach at every position up to there, everywhere. Who, where, and how."""
    idle: list[Iterator[Client]] = [iter(those) for those in made]
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


@bounds_a_time
async def test_law_7_every_drop_and_every_return(tmp_path: Path) -> None:
    """Laws 1, 2, 7: whatever a client holds and whenever it comes back, it gets exactly the rest, without a reset.

    One turn whose events are logged one by one, and one with several in each stored entry.
    """
    turns = {"slow": {"rate": 5, "tokens": TOKENS}, "quick": {"rate": 100, "tokens": TOKENS}}
    async with world(tmp_path, TURNWIRE_FLUSH_MS="50") as w, sockets(w) as made:
        for turn, demo in turns.items():
            attached = await attach_at_every_event(w, made, turn, demo)
            if turn == "slow" and len(attached) <= 300:
                raise TooLate(f"{len(attached)} attachments: a machine that stands still makes fewer events of a turn.")
            for one, seq, request in attached:
                answer = (await one.answer(request))["turns"][turn]
                assert answer["from"] == seq, answer
                view = one.turns[turn]
                if view.ended is None:
                    await one.ending(turn)
                assert (view.text(), view.seq, view.resets) == (expected("Hello", demo), EVENTS, 0)
