"""The commands of one round trip to each server, and their replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from redis.exceptions import ResponseError

from store.redis.node import Command, RedisNode

log = structlog.stdlib.get_logger("turnwire.store")


class Exchange:
    """Commands that are sent together, and their replies in order. An error is a reply too.

    `repeatable`: running the commands twice is harmless. `wait`: a WAIT command that follows them on each server.
    `required_count`: that many commands, from the first one, are repeated until a failover is over, and the others at most
    `RETRIES` times. None: all are required. `node`: the server; by default it follows from the key of each command.
    `key`: commands that name no key are sent to the server that has this one.
    """

    __slots__ = ("asking", "commands", "key", "node", "redirected", "repeatable", "replies", "required_count", "wait")

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        repeatable: bool = True,
        wait: Command | None = None,
        required_count: int | None = None,
        node: RedisNode | None = None,
        key: bytes | None = None,
    ) -> None:
        self.key = key
        self.commands = commands
        self.repeatable = repeatable
        self.wait = wait
        self.required_count = len(commands) if required_count is None else required_count
        self.node = node
        self.replies: list[Any] = []
        self.redirected: dict[int, RedisNode] = {}
        """The node to which another one has redirected a command, by the command's place."""
        self.asking: set[int] = set()
        """The redirected commands that an ASKING has to precede."""

    async def send(self, node: RedisNode, commands: Sequence[Command]) -> list[Any]:
        """Send some of the commands to `node` and return their replies. Log it if too few replicas have the writes."""
        if self.wait is None:
            return await node.round_trip(commands, self.repeatable)
        *replies, replicas = await node.round_trip([*commands, self.wait], self.repeatable)
        required = self.wait[1]
        if isinstance(replicas, int) and replicas < int(str(required)) and not isinstance(replies[-1], ResponseError):
            log.warning("stored on too few replicas", replicas=replicas, required=required)
        return replies
