"""What a connection follows besides its turns: conversations and lists of conversations, and who reads their events."""

from __future__ import annotations

from collections.abc import Callable

from turnwire.client.audience import Audience, Key
from turnwire.client.carrier import Carrier
from turnwire.client.conversation import Reattached
from turnwire.client.errors import TurnwireError
from turnwire.client.events import (
    ConversationDeleted,
    ConversationsChanged,
    ConversationUpdated,
    GatewayEvent,
    TurnStarted,
    UnknownEvent,
)
from turnwire.client.turn import Turn
from turnwire.client.watched import Watched


class Watching:
    """The conversations and lists of one connection, on whichever carrier."""

    def __init__(self) -> None:
        self.audience = Audience()
        self._watched: dict[Key, Watched] = {}

    @property
    def attached(self) -> list[Watched]:
        """What is attached on every socket."""
        return [watched for watched in self._watched.values() if watched.wanted]

    async def attach(self, key: Key, carrier: Carrier) -> None:
        """Attach, and wait for the gateway's answer. Raise the TurnwireError if it refuses, or if the carrier can't."""
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = Watched(*key, self._on_again(key))
        if not watched.wanted:
            watched.wanted = True
            try:
                carrier.watch(watched)
            except TurnwireError:
                watched.wanted = False
                raise
        await watched.answered()

    def detach(self, key: Key) -> Watched | None:
        """Return what has to be detached on the gateway, too. None: it wasn't attached."""
        watched = self._watched.pop(key, None)
        if watched is None or not watched.wanted:
            return None
        watched.detach()
        return watched

    def is_attached(self, key: Key) -> bool:
        """Return whether the connection is attached to a conversation or a list."""
        watched = self._watched.get(key)
        return watched is not None and watched.wanted

    def on_event(self, event: GatewayEvent | UnknownEvent) -> None:
        """Hand on an event that belongs to no turn."""
        if isinstance(event, ConversationUpdated | ConversationDeleted):
            key = (event.user, event.conversation)
            if isinstance(event, ConversationDeleted) and key in self._watched:
                self._watched[key].wanted = False
            self.audience.tell_of(key, event)
        self.audience.tell(event)

    def on_turn(self, turn: Turn, event: TurnStarted) -> None:
        """Hand on a turn that another program has started in an attached conversation."""
        self.audience.tell_of((event.user, event.conversation), turn)

    def close(self, error: TurnwireError) -> None:
        """End everything: the connection is closed for good."""
        for watched in self._watched.values():
            watched.on_refused(error)
        self.audience.close()

    def _on_again(self, key: Key) -> Callable[[int], None]:
        user, conversation = key

        def on_again(revision: int) -> None:
            if conversation is None:  # changes in between are lost: the program has to list the conversations again
                self.on_event(ConversationsChanged(user=user, change="reattached"))
            else:
                self.audience.tell_of(key, Reattached(conversation, revision))

        return on_again
