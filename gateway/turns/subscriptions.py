"""Subscriptions to a conversation: to its turns and its changes, on any instance."""

from __future__ import annotations

from contextlib import suppress

import structlog

from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError
from gateway.streams.outbox import Outbox
from gateway.tasks import spawn
from gateway.turns.instance import Instance
from gateway.turns.mirrors import Mirrors
from store.api import conversation_channel
from store.errors import NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.mirror")


class ConversationSubscriptions:
    """The conversations that connections of this process are subscribed to.

    A conversation's channel carries the ids of new turns, and frames for the subscribers as JSON.
    """

    def __init__(self, instance: Instance, mirrors: Mirrors) -> None:
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._tasks = instance.tasks
        self._mirrors = mirrors
        self._subscribed: dict[str, tuple[str, str]] = {}

    async def subscribe(self, user: str, conversation: str, outbox: Outbox) -> list[str]:
        """Attach `outbox` to the turns that the conversation begins from now on.

        Return the ids of its turns without an ending, oldest first. Raises `StoreError`.
        """
        channel = conversation_channel(user, conversation)
        self._registry.subscribe(user, conversation, outbox)
        self._subscribed[channel] = (user, conversation)
        try:
            await self._store.subscribe(channel)
        except BaseException:
            self._remove_subscriber(user, conversation, outbox)
            raise
        try:
            return await self._store.active(user, conversation)
        except BaseException:
            self.unsubscribe(user, conversation, outbox)
            raise

    def unsubscribe(self, user: str, conversation: str, outbox: Outbox) -> None:
        """End the subscription of `outbox`."""
        self._remove_subscriber(user, conversation, outbox)
        spawn(self._tasks, self._unsubscribe(conversation_channel(user, conversation)))

    def _remove_subscriber(self, user: str, conversation: str, outbox: Outbox) -> None:
        self._registry.unsubscribe(user, conversation, outbox)
        if not self._registry.has_subscribers(user, conversation):
            self._subscribed.pop(conversation_channel(user, conversation), None)

    async def _unsubscribe(self, channel: str) -> None:
        with suppress(StoreError):
            await self._store.unsubscribe(channel)

    async def send(self, user: str, conversation: str, frame: object) -> None:
        """Send a frame to all subscribers of the conversation, here and on other instances."""
        self._registry.send_to_subscribers(user, conversation, frame)
        if self._store.shared:
            payload = JSON.encode({"from": self._instance.id, "frame": frame})
            with suppress(StoreError):  # a client that misses it gets the revision at its next attach
                await self._store.publish(conversation_channel(user, conversation), payload)

    def deliver(self, channel: str, payload: bytes) -> None:
        """Handle a payload that was published on a conversation's channel. Never awaits."""
        if channel not in self._subscribed:
            return
        user, conversation = self._subscribed[channel]
        if payload[:1] == b"{":
            message = JSON.decode_any(payload)
            if message["from"] != self._instance.id:
                if message["frame"].get("type") == "conversation.deleted":
                    self._registry.drop_ended(user, conversation)
                self._registry.send_to_subscribers(user, conversation, message["frame"])
        else:
            spawn(self._tasks, self._join(user, payload.decode()))

    async def _join(self, user: str, turn: str) -> None:
        """Attach the subscribers here to a turn that another instance has accepted, if the turn can be found."""
        try:
            live_turn = await self._mirrors.find(user, turn)
            if not live_turn.is_owned:  # a turn that runs here is attached when it is accepted
                self._registry.attach_subscribers(live_turn)
        except (NotFound, ApiError):
            return
        except StoreError as error:
            log.info("subscribers can't be attached to a turn", turn=turn, error=str(error))

    def resync(self) -> None:
        """Look for turns that began while the connection to the store's channels was lost."""
        for user, conversation in set(self._subscribed.values()):
            spawn(self._tasks, self._join_active(user, conversation))

    async def _join_active(self, user: str, conversation: str) -> None:
        with suppress(StoreError):
            for turn in await self._store.active(user, conversation):
                await self._join(user, turn)
