"""The erasure of a user: everything that the store and all instances have of the user is deleted.

Turns are cancelled and connections are closed first. An instance that was cut off meanwhile and still runs a turn of the user
doesn't store that turn again: see `store.api.erased_key`.
"""

from __future__ import annotations

import asyncio
from math import inf

import structlog

from gateway.limits.limits import Limits
from gateway.protocol.errors import ApiError
from gateway.protocol.events import ConversationDeleted
from gateway.requests.clients import ClientRegistry
from gateway.turns.abort import Abort
from gateway.turns.cancellation import Cancellation
from gateway.turns.list_subscriptions import ListSubscriptions
from gateway.turns.registry import TurnRegistry
from store.api import Store, erased_key, user_hash

log = structlog.stdlib.get_logger("turnwire.audit")

CHANNEL = "erasure"
"""The channel on which an instance tells the others which user is erased."""
ERASED_TTL_MS = 3_600_000
ROUNDS_MAX = 5
PAUSE_S = 60.0
"""The time after which a user may erase itself again: each erasure looks through all data of the store."""
SETTLE_S = 0.3
"""The time in which instances write what they still had of the user: counted requests, permits, presence."""
CLOSED_REASON = "All data of this user was deleted."
CANCELLED = Abort("admin", CLOSED_REASON)


class Erasure:
    """The erasure of users, on this instance and on all others."""

    def __init__(
        self,
        store: Store,
        registry: TurnRegistry,
        cancellation: Cancellation,
        clients: ClientRegistry,
        limits: Limits,
        list_subscriptions: ListSubscriptions,
    ) -> None:
        self._store = store
        self._registry = registry
        self._cancellation = cancellation
        self._clients = clients
        self._limits = limits
        self._list_subscriptions = list_subscriptions
        self._one_at_a_time = asyncio.Lock()
        self._again_at: dict[str, float] = {}
        """When each user that has erased itself may do so again, by the hash of its name."""

    async def erase(self, user: str, caller: str, *, is_admin: bool = True) -> None:
        """Delete everything of `user`. If it is cut off, another call completes it.

        An instance deletes the data of one user at a time. `is_admin`: whether the caller may repeat the request at
        once. The log names the user and the `caller` only by their hashes. Raises `StoreError`, and `ApiError`
        "rate_limited" if the user keeps starting turns, or if a caller that isn't an administrator repeats the request
        while it runs or soon after.
        """
        if is_admin:
            await self._erase(user, caller)
            return
        name = user_hash(user)
        self._check_pause(name)
        self._again_at[name] = inf
        try:
            await self._erase(user, caller)
        except BaseException:
            del self._again_at[name]  # it may be repeated at once
            raise
        self._again_at[name] = asyncio.get_running_loop().time() + PAUSE_S

    def _check_pause(self, name: str) -> None:
        now = asyncio.get_running_loop().time()
        self._again_at = {one: at for one, at in self._again_at.items() if at > now}
        again_at = self._again_at.get(name)
        if again_at is not None:
            raise ApiError(
                "rate_limited",
                "Your data was just deleted, or is being deleted. Wait a moment, then try again.",
                retry_after_ms=int(1000 * min(again_at - now, PAUSE_S)),
            )

    async def _erase(self, user: str, caller: str) -> None:
        hashes = {"user_hash": user_hash(user), "caller_hash": user_hash(caller)}
        log.info("erasure of a user begins", **hashes)
        await self._announce(user)
        await self._end_turns(user)
        # An instance may still have an earlier turn of the user. Because of this key, it doesn't store that turn again.
        erased_ms = await self._store.clock_ms()
        await self._store.put_ephemeral(erased_key(user), str(erased_ms).encode(), ERASED_TTL_MS)
        await self._delete(user)
        await self._announce(user)
        await asyncio.sleep(SETTLE_S)
        await self._delete(user)
        log.info("user erased", **hashes)

    async def _delete(self, user: str) -> None:
        async with self._one_at_a_time:
            await self._store.erase_user(user)

    async def _end_turns(self, user: str) -> None:
        for _ in range(ROUNDS_MAX):
            here = [live_turn.turn for live_turn in self._registry.live(user)]
            turns = list(dict.fromkeys([*here, *await self._store.active(user, None)]))
            if not turns:
                return
            await self._cancellation.cancel_and_wait(user, turns, CANCELLED)
        raise ApiError(
            "rate_limited",
            "The user keeps starting turns. Revoke the user's credentials, then try again.",
            retry_after_ms=1000,
        )

    async def _announce(self, user: str) -> None:
        """Make every instance close the user's connections and forget the user. Raises `StoreError`."""
        self.forget(user)
        await self._store.publish(CHANNEL, user.encode())

    def deliver(self, payload: bytes) -> None:
        """Forget the user that another instance erases."""
        self.forget(payload.decode())

    def forget(self, user: str) -> None:
        """Close the user's connections to this instance for good, and forget what it has of the user in memory.

        A service's connection stays open; its subscriptions for the user get `conversation.deleted`
        and `conversations.changed`.
        """
        for client in self._clients.of(user):
            client.close_permanently(CLOSED_REASON)
        for conversation in self._registry.subscribed_conversations(user):
            self._registry.send_to_subscribers(user, conversation, ConversationDeleted(conversation))
        self._list_subscriptions.erased(user)
        self._registry.drop_ended_of(user)
        self._limits.forget(user)
