"""A small world to break: a real Redis, real gateway processes on it, a logging upstream, and the oracle (law by law)."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException

from tests.client import RequestFailed, client
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.redis_process import CutWay, RedisProcess, cut_way, redis_process
from tests.resilient import Resilient, TurnLost, resilient
from tests.upstream import Upstream

LEASE_S = 1.5
SETTINGS = {"TURNWIRE_LEASE_S": str(LEASE_S), "TURNWIRE_DRAIN_S": "3", "TURNWIRE_DISCONNECT_GRACE_S": "1"}


class World:
    """Instances of the gateway on one Redis. `urls` lists those that may be connected to.

    `way`: their way to Redis, which can be cut. `lost_turns`: of how many turns the store lost what there was.
    """

    def __init__(
        self, folder: Path, redis: RedisProcess, way: CutWay, upstream: Upstream, stack: AsyncExitStack
    ) -> None:
        self.folder = folder
        self.redis = redis
        self.way = way
        self.lost_turns = 0
        self.upstream = upstream
        self.instances: list[GatewayProcess] = []
        self.hidden: set[int] = set()
        self._stack = stack
        self._started: dict[str, tuple[str, dict[str, Any]]] = {}
        self._may_be_lost: set[str] = set()

    async def add(self, **settings: str) -> GatewayProcess:
        """Start one more instance."""
        environment = {
            **SETTINGS,
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": self.upstream.openai_url,
            **settings,
        }
        made = await self._stack.enter_async_context(
            gateway_process(self.folder, environment, store=self.way.url, forgiving=True)
        )
        self.instances.append(made)
        return made

    def urls(self) -> list[str]:
        """The sockets of the instances that are up."""
        return [
            one.ws_url
            for n, one in enumerate(self.instances)
            if one.process.returncode is None and n not in self.hidden
        ]

    def kill(self, number: int) -> None:
        """kill -9."""
        self.instances[number].process.kill()
        self.hidden.add(number)

    def freeze(self, number: int) -> None:
        """SIGSTOP."""
        self.instances[number].process.send_signal(signal.SIGSTOP)
        self.hidden.add(number)

    def thaw(self, number: int) -> None:
        """SIGCONT."""
        self.instances[number].process.send_signal(signal.SIGCONT)
        self.hidden.discard(number)

    def lose_data(self) -> None:
        """Redis is killed, and comes back empty."""
        self.redis.restart(with_data=False)
        self._may_be_lost |= self._started.keys()

    async def start(self, who: Resilient, turn: str, **demo: Any) -> dict[str, Any]:
        """Start a demo turn, and remember what it has to say."""
        self._started[turn] = (f"About {turn}", demo)
        return await who.start(turn, input=f"About {turn}", params={"demo": demo})

    async def check(self, who: Resilient, turn: str, *, ends: str = "turn.completed") -> None:
        """The oracle: one ending, the text is what was to be said (or a prefix), and the history has the same.

        Where the store has lost the turn its client is told; silence ends in a `TimeoutError`.
        """
        try:
            ended = await who.ending(turn)
        except TurnLost as lost:
            assert turn in self._may_be_lost, f"{turn}: {lost}, though nothing was lost"
            self.lost_turns += 1
            return
        assert ended["type"] == ends, ended
        prompt, demo = self._started[turn]
        whole = expected(prompt, demo)
        said = who.text(turn)
        if ends == "turn.completed":
            assert said == whole, f"{turn}: {len(said)} of {len(whole)} characters"
        else:
            assert whole.startswith(said), turn
        await self.check_stored(turn, said)

    async def check_stored(self, turn: str, said: str) -> None:
        """Law 3: whoever has seen an ending finds the message, on every instance that can be asked."""
        for url in self.urls():
            stored = await self._stored(url, turn)
            assert stored is None or stored == said, f"{turn} at {url}: law 3"

    async def _stored(self, url: str, turn: str) -> str | None:
        """The stored text as the instance at `url` has it; None if that has gone meanwhile."""
        async with asyncio.timeout(20):
            while url in self.urls():
                try:
                    async with client(url, open_timeout=2) as c:
                        got = await c.request("turn.get", turn=turn)
                except RequestFailed as failed:
                    if failed.code == "not_found" and turn in self._may_be_lost:
                        return None
                    if not failed.error["retryable"]:
                        raise
                except (OSError, WebSocketException, TimeoutError, AssertionError):
                    pass
                else:
                    parts = got["message"]["parts"]
                    return "".join(part.get("text", "") for part in parts if part["kind"] == "text")
                await asyncio.sleep(0.1)
        return None


@asynccontextmanager
async def world(folder: Path, instances: int = 2, *, appendonly: bool = False, **settings: str) -> AsyncIterator[World]:
    """A Redis and so many instances."""
    with redis_process(folder / "redis", appendonly=appendonly) as redis:
        async with Upstream() as upstream, cut_way(redis) as way, AsyncExitStack() as stack:
            made = World(folder, redis, way, upstream, stack)
            for _ in range(instances):
                await made.add(**settings)
            try:
                yield made
            finally:
                for n in list(made.hidden):
                    if made.instances[n].process.returncode is None:
                        made.thaw(n)


@asynccontextmanager
async def client_of(made: World, *only: int, seed: int = 1, codec: str = "json") -> AsyncIterator[Resilient]:
    """A resilient client of the world, or of some of its instances while they are up."""

    def urls() -> list[str]:
        up = made.urls()
        chosen = [one.ws_url for n, one in enumerate(made.instances) if n in only and one.ws_url in up]
        return chosen or up

    async with resilient(urls, codec, seed) as who:
        yield who


def moment(pick: random.Random, low_s: float, high_s: float) -> Any:
    """Wait for a random moment."""
    return asyncio.sleep(pick.uniform(low_s, high_s))
