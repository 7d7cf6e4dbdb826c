"""Who reads the events of a connection that belong to no turn."""

from __future__ import annotations

from typing import TypeAlias
from weakref import WeakSet

from turnwire.client.conversation import ConversationItem
from turnwire.client.events import GatewayEvent, UnknownEvent
from turnwire.client.options import ConnectionState
from turnwire.client.subscription import Subscription

Key = tuple[str | None, str | None]
"""A user (`as`), and a conversation or None for the list of conversations."""

Item: TypeAlias = GatewayEvent | ConnectionState | UnknownEvent


class Audience:
    """The subscriptions of one connection. One that nobody holds any more is dropped."""

    def __init__(self) -> None:
        self._all: WeakSet[Subscription[Item]] = WeakSet()
        self._of_conversations: dict[Key, WeakSet[Subscription[ConversationItem]]] = {}

    def subscribe(self) -> Subscription[Item]:
        """Read what belongs to no turn."""
        subscription: Subscription[Item] = Subscription()
        self._all.add(subscription)
        return subscription

    def subscribe_to(self, key: Key) -> Subscription[ConversationItem]:
        """Read what happens in a conversation."""
        subscription: Subscription[ConversationItem] = Subscription()
        self._of_conversations = {known: readers for known, readers in self._of_conversations.items() if readers}
        self._of_conversations.setdefault(key, WeakSet()).add(subscription)
        return subscription

    def tell(self, item: Item) -> None:
        """Hand on what belongs to no turn."""
        for subscription in tuple(self._all):
            subscription.put(item)

    def tell_of(self, key: Key, item: ConversationItem) -> None:
        """Hand on what happens in a conversation."""
        for subscription in tuple(self._of_conversations.get(key, ())):
            subscription.put(item)

    def close(self) -> None:
        """End all iterations."""
        for subscription in tuple(self._all):
            subscription.close()
        for readers in self._of_conversations.values():
            for reader in tuple(readers):
                reader.close()
