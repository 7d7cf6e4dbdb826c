"""Commands are routed by their key, and redirections are followed within the time of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio.cluster import NodesManager
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from store.redis.cluster import SLOTS, ClusterRoutes, key_of, uses_many_keys
from store.redis.exchange import Exchange
from store.redis.keys import user_prefix
from store.redis.node import Command, RedisNode
from store.redis.target import parse_target

SCRIPT: Command = ("EVALSHA", b"sha", 1, user_prefix("ann"), b"x")
SINGLE: Command = ("GET", b"turnwire:note:k")


class Nodes:
    """Two nodes, of which the first has all slots. `answer` makes the reply to a command at a port."""

    def __init__(self, answer: Callable[[int, Command], Any]) -> None:
        self.answer = answer
        self.sent: list[tuple[int, Command]] = []
        self.renewals = 0
        self.master = 1

    def install(self, monkeypatch: pytest.MonkeyPatch) -> ClusterRoutes:
        """Return routes to these nodes."""
        nodes = self

        async def round_trip(self: RedisNode, commands: list[Command], repeatable: bool) -> list[Any]:
            replies = []
            for command in commands:
                nodes.sent.append((self.port, command))
                reply = nodes.answer(self.port, command)
                if isinstance(reply, RedisConnectionError):
                    raise reply
                replies.append(reply)
            return replies

        async def initialize(self: NodesManager, **_: Any) -> None:
            nodes.renewals += 1
            (startup, *_rest) = self.startup_nodes.values()
            startup.host, startup.port = "h", nodes.master
            self.slots_cache = {slot: [startup] for slot in range(SLOTS)}

        monkeypatch.setattr(RedisNode, "round_trip", round_trip)
        monkeypatch.setattr(NodesManager, "initialize", initialize)
        return ClusterRoutes(parse_target("redis+cluster://h:1,h:2"), _loaded)


async def _loaded(node: RedisNode) -> None:
    """Load nothing."""


async def run(routes: ClusterRoutes, *commands: Command, time_s: float = 40, **options: Any) -> list[Any]:
    """Run the commands and return their replies; after `time_s`, return those received so far."""
    exchange = Exchange(commands, **options)
    try:
        async with asyncio.timeout(time_s):
            await routes.run(exchange)
    except TimeoutError:
        pass
    return exchange.replies


def test_the_key_of_a_command() -> None:
    """A script's key is its only one. A script over a user's prefix uses many keys, one over a real key doesn't."""
    assert key_of(SCRIPT) == user_prefix("ann")
    assert key_of(SINGLE) == b"turnwire:note:k"
    assert key_of(("TIME",)) is None
    assert uses_many_keys(SCRIPT)
    assert not uses_many_keys(("EVALSHA", b"sha", 1, user_prefix("ann") + b"requests"))
    assert not uses_many_keys(SINGLE)


@pytest.mark.parametrize(
    "refusal",
    [TryAgainError("x"), ClusterDownError("x"), ReadOnlyError("x"), MovedError("5 h:2"), MovedError("5 :1")],
    ids=["TRYAGAIN", "CLUSTERDOWN", "READONLY", "MOVED", "MOVED without a host"],
)
async def test_a_refused_command_is_sent_again_even_if_it_isnt_repeatable(
    monkeypatch: pytest.MonkeyPatch, refusal: ResponseError
) -> None:
    """A node that refuses a command hasn't run it. The other commands of the exchange aren't sent again."""
    refused = iter([refusal, refusal])

    def answer(port: int, command: Command) -> Any:
        return next(refused, port) if command == SINGLE else b"ok"

    nodes = Nodes(answer)
    replies = await run(nodes.install(monkeypatch), ("GET", b"a"), SINGLE, ("GET", b"b"), repeatable=False)
    assert replies[0] == replies[2] == b"ok"
    assert replies[1] in {1, 2}
    assert [command for _, command in nodes.sent].count(("GET", b"a")) == 1
    assert [command for _, command in nodes.sent].count(SINGLE) == 3


async def test_an_ask_is_followed_for_one_key_and_awaited_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script over many keys is sent to the node of the slot only, until that node says that the slot has moved."""
    asked = iter([AskError("5 h:2")] * 3)

    def answer(port: int, command: Command) -> Any:
        if port == 1 and command == SCRIPT:
            return next(asked, MovedError(f"{_slot(SCRIPT)} h:2"))
        return AskError("5 h:2") if port == 1 else port

    nodes = Nodes(answer)
    assert await run(nodes.install(monkeypatch), SINGLE, SCRIPT) == [2, 2]
    assert nodes.sent.index((2, ("ASKING",))) + 1 == nodes.sent.index((2, SINGLE))
    assert nodes.sent.count((2, ("ASKING",))) == 1
    assert nodes.sent.count((1, SCRIPT)) == 4


def _slot(command: Command) -> int:
    key = key_of(command)
    assert key is not None
    return key_slot(key)


async def test_a_lost_connection_is_retried_only_if_the_call_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeatable call is sent to the new master; the other one fails at once."""

    def answer(port: int, command: Command) -> Any:
        return RedisConnectionError("gone") if port == 1 else b"ok"

    nodes = Nodes(answer)
    routes = nodes.install(monkeypatch)
    await routes.masters()
    nodes.master = 2
    (failed,) = await run(routes, SINGLE, repeatable=False)
    assert isinstance(failed, RedisConnectionError)
    assert len(nodes.sent) == 1
    assert await run(routes, SINGLE) == [b"ok"]


async def test_redirections_in_a_circle_end_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes that name each other get few commands, and the call's error is the redirection."""

    def answer(port: int, command: Command) -> Any:
        return MovedError(f"{_slot(SINGLE)} h:{3 - port}")

    nodes = Nodes(answer)
    (reply,) = await run(nodes.install(monkeypatch), SINGLE, time_s=2)
    assert isinstance(reply, MovedError)
    assert 2 < len(nodes.sent) < 40
    assert nodes.renewals < 25
