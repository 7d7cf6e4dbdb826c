"""A test environment to inject faults into: a real Redis that may lose its data, gateway processes that share it, an upstream
that records its requests, and checks of the laws."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from websockets.exceptions import WebSocketException

from store.redis.keys import user_prefix
from tests.archive_oracle import ArchiveServer, Pending, Said, check_archive, flush, pause_and_read, until_drained
from tests.client import RequestFailed, client
from tests.credentials import SECRET
from tests.demo import expected
from tests.instances import Instances
from tests.redis_cluster import RedisCluster
from tests.redis_process import CuttableProxy, RedisProcess, cuttable_proxy, redis_process
from tests.resilient import Resilient, TurnLost, headers_of, resilient
from tests.upstream import Upstream, chat

WITH_USERS = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET}
"""Settings with which clients must authenticate."""
REAL_WORDS = [f"word{n} " for n in range(60)]
"""The upstream's answer. At `REAL_RATE` words per second it ends long before the drain's time limit."""
REAL_RATE = 100

Key = tuple[str | None, str]
"""A user and the id of a turn."""


@dataclass(frozen=True)
class Started:
    """A started turn: its prompt, its expected text, the monotonic time of its start in seconds, and whether it is `real`.

    A `real` turn uses a provider that can't continue an interrupted answer. The demo model can."""

    prompt: str
    text: str
    at: float
    real: bool = False


def canary(user: str) -> str:
    """Return a word that every prompt of this user contains, to detect it in another user's frames."""
    return f"canary-of-{user}."


class World(Instances):
    """Instances of the gateway on one Redis, the losses of its data, and the checks of the turns that were started here.

    The instances connect to Redis through `redis_proxy`, which can cut its connections; with a `cluster`, they connect to
    that instead. `lost_turns` is the number of turns that `check` found to be lost by the store.
    """

    def __init__(
        self,
        folder: Path,
        redis: RedisProcess,
        redis_proxy: CuttableProxy,
        upstream: Upstream,
        stack: AsyncExitStack,
        settings: dict[str, str],
        cluster: RedisCluster | None = None,
        archive: ArchiveServer | None = None,
    ) -> None:
        super().__init__(folder, redis_proxy.url if cluster is None else cluster.url, upstream, stack, settings)
        self.redis = redis
        self.redis_proxy = redis_proxy
        self.cluster = cluster
        self.archive = archive
        self.lost_turns = 0
        self._started: dict[Key, Started] = {}
        self._may_be_lost: set[Key] = set()
        self._lost: set[Key] = set()
        self._said: dict[Key, Said] = {}
        self._unarchived = Pending(set(), set(), set())
        self._counts_are_lost = False

    def flush(self, *, archive_is_away: bool = False) -> None:
        """Delete all data of Redis, or of all nodes of the cluster."""
        self.record_fault()
        self._counts_are_lost |= archive_is_away
        self._record_unarchived(flush([self.redis] if self.cluster is None else self.cluster.masters()))
        self._may_be_lost |= self._started.keys()

    def lose_data(self, *, archive_is_away: bool = False) -> None:
        """Kill Redis, and start it without data."""
        self.record_fault()
        self._counts_are_lost |= archive_is_away
        self._read_outboxes()
        self.redis.restart(with_data=False)
        self._may_be_lost |= self._started.keys()

    def roll_back(self, to: tuple[Path, int]) -> None:
        """Kill Redis, and remove what it wrote after `to` (append-only file, size in bytes). The caller must start it again."""
        self.record_fault()
        self._read_outboxes()
        self.redis.roll_back(to)
        self._may_be_lost |= self._started.keys()

    def _read_outboxes(self) -> None:
        if self.archive is not None:
            self._record_unarchived(pause_and_read(self.redis))

    def _record_unarchived(self, pending: Pending) -> None:
        for known, more in zip(self._unarchived, pending, strict=True):
            known |= more

    async def check_archive(self) -> None:
        """Check that the archive has exactly what clients have received."""
        assert self.archive is not None
        users = {user or "local" for user, _ in self._started}
        execute = (self.cluster or self.redis).execute
        await until_drained(execute, users)
        started = {(user or "local", turn): one.prompt for (user, turn), one in self._started.items()}
        said = {(user or "local", turn): one for (user, turn), one in self._said.items()}
        lost = {(user or "local", turn) for user, turn in self._lost}
        check_archive(self.archive, said, started, self._unarchived, lost, has_counts=not self._counts_are_lost)

    async def start(self, who: Resilient, turn: str, *, conversation: str | None = None, **demo: Any) -> dict[str, Any]:
        """Start a demo turn, and record its expected text for `check`. `conversation` is created if it doesn't exist."""
        prompt = self._prompt(who, turn)
        self._started[who.user, turn] = Started(prompt, expected(prompt, demo), time.monotonic())
        place = {} if conversation is None else {"conversation": conversation, "create": True}
        return await who.start(turn, input=prompt, params={"demo": demo}, **place)

    async def start_real(self, who: Resilient, turn: str) -> dict[str, Any]:
        """Start a turn of a provider that can't continue an interrupted answer, and record its expected text for `check`."""
        self.upstream.play(chat(*REAL_WORDS).replace(rate=REAL_RATE))
        prompt = self._prompt(who, turn)
        self._started[who.user, turn] = Started(prompt, "".join(REAL_WORDS), time.monotonic(), real=True)
        return await who.start(turn, input=prompt, model="openai/m")

    def _prompt(self, who: Resilient, turn: str) -> str:
        return f"About {turn}" if who.user is None else f"About {turn} of {canary(who.user)}"

    async def check(self, who: Resilient, turn: str, *, ends: str = "turn.completed") -> None:
        """Wait for the turn's ending and check the turn. `ends` is the type of the expected end event.

        The text must be the expected one (a prefix of it, unless the turn completed), and every reachable instance must
        return the same stored text. A `turn.reset` or `owner_lost` is accepted only after a recorded fault. The provider of a
        `real` turn was asked at most once per epoch. If the store has lost the turn, the gateway must tell the client:
        without an ending or an error, a `TimeoutError` is raised.
        """
        key = who.user, turn
        started = self._started[key]
        try:
            ended = await who.ending(turn)
        except TurnLost as lost:
            assert key in self._may_be_lost, f"{turn}: {lost}, though nothing was lost"
            self.lost_turns += 1
            self._lost.add(key)
            return
        harmed = self.fault_at >= started.at
        assert harmed or who.views[turn].resets == 0, f"{turn}: a reset without a fault"
        if key in self._may_be_lost and ended["type"] == "turn.failed" and ended["error"]["code"] == "not_found":
            self.lost_turns += 1  # Redis lost the turn's input before the owner read it
            self._lost.add(key)
            return
        if started.real and harmed and ended["type"] == "turn.failed":
            assert ended["error"]["code"] == "owner_lost", ended
        else:
            assert ended["type"] == ends, ended
        said = who.text(turn)
        if ended["type"] == "turn.completed":
            assert said == started.text, f"{turn}: {len(said)} of {len(started.text)} characters"
        else:
            assert started.text.startswith(said), turn
        self._said[key] = Said(started.prompt, said, ended["type"])
        await self.check_stored(turn, said, who.user)
        if started.real:
            self._check_asked(key, started, int(ended["type"] == "turn.completed"))

    def _check_asked(self, key: Key, started: Started, at_least: int) -> None:
        """Check that the provider got at least `at_least` requests for the turn, and one per epoch at most (laws 6, 9).

        After a loss of Redis' data nothing is checked, because the turn's epochs may be lost too.
        """
        if key in self._may_be_lost:
            return
        asked = sum(f'"{started.prompt}"'.encode() in json.dumps(one.body).encode() for one in self.upstream.requests)
        kept = (self.cluster or self.redis).execute(
            "HGET", user_prefix(key[0] or "local") + f"turn:{key[1]}".encode(), "epochs"
        )
        assert at_least <= asked <= kept.count(b";"), f"{key}: asked {asked} times in the epochs {kept}"

    async def check_stored(self, turn: str, said: str, user: str | None = None) -> None:
        """Check law 3: after the ending, every reachable instance returns the stored message with the text `said`."""
        for url in self.urls():
            stored = await self._stored(url, user, turn)
            assert stored is None or stored == said, f"{turn} at {url}: law 3"

    def check_strangers(self, clients: list[Resilient]) -> None:
        """Check law 12: no frame of a client contains another user's prompt."""
        users = {who.user for who in clients if who.user is not None}
        for who in clients:
            frames = [*who.frames, *(who.now.frames if who.now is not None else [])]
            seen = msgspec.json.encode(frames)
            assert canary(who.user or "").encode() in seen
            for stranger in users - {who.user}:
                assert canary(stranger).encode() not in seen, f"{who.user} has received a prompt of {stranger}"

    async def _stored(self, url: str, user: str | None, turn: str) -> str | None:
        """Return the turn's stored text from the instance at `url`; None if the instance is down or the turn was lost."""
        async with asyncio.timeout(20):
            while url in self.urls():
                try:
                    async with client(url, open_timeout=2, additional_headers=headers_of(user)) as c:
                        got = await c.request("turn.get", turn=turn)
                except RequestFailed as failed:
                    if failed.code == "not_found" and (user, turn) in self._may_be_lost:
                        return None
                    if not failed.error["retryable"]:
                        raise
                except (OSError, WebSocketException, TimeoutError, AssertionError):
                    pass
                else:
                    if (user, turn) in self._may_be_lost and got["status"] in {"queued", "running"}:
                        continue  # Redis lost the ending; the instance that takes the turn over will store one again
                    if (user, turn) in self._may_be_lost and "message" not in got:
                        continue  # Redis lost its data while the gateway read the turn, between the ending and the answer
                    parts = got["message"]["parts"]
                    return "".join(part.get("text", "") for part in parts if part["kind"] == "text")
                await asyncio.sleep(0.1)
        return None


@asynccontextmanager
async def world(
    folder: Path,
    instances: int = 2,
    *,
    appendonly: bool = False,
    cluster: RedisCluster | None = None,
    archive: ArchiveServer | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    running_upstream: Upstream | None = None,
    **more: str,
) -> AsyncIterator[World]:
    """Run a Redis and `instances` gateways. On exit, stop them. `cluster`: use it instead of the Redis.

    `settings` and `more` are settings of the gateways. `archive`: the gateways use it. `running_upstream`: an upstream to use,
    instead of a new one.
    """
    archived = {} if archive is None else archive.settings
    with redis_process(folder / "redis", appendonly=appendonly) as redis:
        new_upstream = Upstream() if running_upstream is None else nullcontext(running_upstream)
        async with new_upstream as upstream, cuttable_proxy(redis) as redis_proxy, AsyncExitStack() as stack:
            made = World(
                folder, redis, redis_proxy, upstream, stack, {**archived, **settings, **more}, cluster, archive
            )
            await made.add(instances)
            try:
                yield made
            finally:
                for n in list(made.hidden):
                    if made.instances[n].process.returncode is None:
                        made.thaw(n)


@asynccontextmanager
async def client_of(
    made: World, *only: int, seed: int = 1, codec: str = "json", user: str | None = None
) -> AsyncIterator[Resilient]:
    """Open a resilient client.

    It connects to the instances with the numbers `only`. If none of these is up, or `only` is empty, it connects to any."""

    def urls() -> list[str]:
        up = made.urls()
        chosen = [one.ws_url for n, one in enumerate(made.instances) if n in only and one.ws_url in up]
        return chosen or up

    async with resilient(urls, codec, seed, user) as who:
        yield who


def random_delay(pick: random.Random, low_s: float, high_s: float) -> Any:
    """Return an awaitable that waits for a random time between the bounds."""
    return asyncio.sleep(pick.uniform(low_s, high_s))
