"""The turns that this process knows, and the subscriptions to conversations.

Ended turns are kept for clients that resume them, bounded in time and in size.
"""

from __future__ import annotations

import asyncio

from gateway.streams.outbox import Outbox
from gateway.turns.live_turn import LiveTurn

ENDED_BYTES_MAX = 64 * 1024 * 1024
EVENT_MEMORY_BYTES = 160
TURN_MEMORY_BYTES = 4096


class TurnRegistry:
    """The turns by user and id, the live turns by conversation, and the subscribers of conversations."""

    def __init__(self, ended_ttl_s: float) -> None:
        self._ended_ttl_s = ended_ttl_s
        self._turns: dict[tuple[str, str], LiveTurn] = {}
        self._live: dict[tuple[str, str], LiveTurn] = {}
        self._live_by_user: dict[str, dict[str, LiveTurn]] = {}
        self._ended: dict[tuple[str, str], float] = {}
        self._ended_bytes = 0
        self._subscriptions: dict[tuple[str, str], set[Outbox]] = {}
        self._live_by_conversation: dict[tuple[str, str], list[LiveTurn]] = {}

    def get(self, user: str, turn: str) -> LiveTurn | None:
        """Return the turn if it is live or if it has ended and is still kept."""
        return self._turns.get((user, turn))

    def add(self, live_turn: LiveTurn) -> None:
        """Add a new turn."""
        key = (live_turn.user, live_turn.turn)
        self._turns[key] = self._live[key] = live_turn
        self._live_by_user.setdefault(live_turn.user, {})[live_turn.turn] = live_turn
        self.index_conversation(live_turn)

    def index_conversation(self, live_turn: LiveTurn) -> None:
        """Let `live_in` find the live turn, if it has a conversation by now."""
        if live_turn.conversation is not None:
            siblings = self._live_by_conversation.setdefault((live_turn.user, live_turn.conversation), [])
            if live_turn not in siblings:
                siblings.append(live_turn)

    def remove(self, live_turn: LiveTurn) -> None:
        """Forget a turn that was not accepted, or a mirror that is dropped."""
        self._turns.pop((live_turn.user, live_turn.turn), None)
        self._remove_live(live_turn)

    def _remove_live(self, live_turn: LiveTurn) -> None:
        if self._live.pop((live_turn.user, live_turn.turn), None) is not None:
            of_user = self._live_by_user[live_turn.user]
            del of_user[live_turn.turn]
            if not of_user:
                del self._live_by_user[live_turn.user]
        key = (live_turn.user, live_turn.conversation or "")
        siblings = self._live_by_conversation.get(key)
        if siblings is not None and live_turn in siblings:
            siblings.remove(live_turn)
            if not siblings:
                del self._live_by_conversation[key]

    def live(self, user: str | None = None) -> list[LiveTurn]:
        """Return the turns without an ending, of `user` or of all users, oldest first."""
        return list((self._live if user is None else self._live_by_user.get(user, {})).values())

    def live_in(self, user: str, conversation: str) -> list[LiveTurn]:
        """Return the turns of a conversation that have no ending, oldest first."""
        return list(self._live_by_conversation.get((user, conversation), ()))

    def mark_ended(self, live_turn: LiveTurn) -> None:
        """Keep an ended turn for clients that resume it, and drop the oldest ones past the bounds in time and size."""
        now = asyncio.get_running_loop().time()
        key = (live_turn.user, live_turn.turn)
        self._remove_live(live_turn)
        self._ended[key] = now + self._ended_ttl_s
        self._ended_bytes += _memory_bytes(live_turn)
        while self._ended:
            oldest = next(iter(self._ended))
            if self._ended[oldest] > now and self._ended_bytes <= ENDED_BYTES_MAX:
                return
            del self._ended[oldest]
            self._ended_bytes -= _memory_bytes(self._turns.pop(oldest))

    def ended(self) -> list[LiveTurn]:
        """Return the ended turns that are kept, the last one first."""
        return [self._turns[key] for key in reversed(self._ended)]

    def forget_ended(self, live_turn: LiveTurn) -> None:
        """Forget an ended turn, because it isn't the one that the store has."""
        key = (live_turn.user, live_turn.turn)
        if self._turns.get(key) is live_turn and self._ended.pop(key, None) is not None:
            self._ended_bytes -= _memory_bytes(self._turns.pop(key))

    def drop_ended(self, user: str, conversation: str) -> None:
        """Forget the ended turns of a deleted conversation. They can't be resumed any more."""
        self._drop_ended(user, conversation)

    def _drop_ended(self, user: str, conversation: str | None) -> None:
        for key in list(self._ended):
            live_turn = self._turns[key]
            if live_turn.user == user and live_turn.conversation == conversation:
                del self._ended[key]
                self._ended_bytes -= _memory_bytes(self._turns.pop(key))

    def drop_ended_of(self, user: str) -> None:
        """Forget the ended turns of an erased user."""
        for conversation in {self._turns[key].conversation for key in self._ended if key[0] == user}:
            self._drop_ended(user, conversation)

    def subscribed_conversations(self, user: str) -> list[str]:
        """Return the user's conversations that have subscribers in this process."""
        return [conversation for owner, conversation in self._subscriptions if owner == user]

    def subscribe(self, user: str, conversation: str, outbox: Outbox) -> None:
        """Attach `outbox` to every turn that `user` has in the conversation from now on."""
        self._subscriptions.setdefault((user, conversation), set()).add(outbox)

    def unsubscribe(self, user: str, conversation: str, outbox: Outbox) -> None:
        """Stop attaching `outbox` to new turns of the conversation."""
        subscriptions = self._subscriptions.get((user, conversation))
        if subscriptions is not None:
            subscriptions.discard(outbox)
            if not subscriptions:
                del self._subscriptions[user, conversation]

    def has_subscribers(self, user: str, conversation: str) -> bool:
        """Return whether any outbox is subscribed to the conversation."""
        return (user, conversation) in self._subscriptions

    def attach_subscribers(self, live_turn: LiveTurn) -> None:
        """Attach, from the first event, each subscriber of the turn's conversation that isn't attached yet."""
        for outbox in self._subscriptions.get((live_turn.user, live_turn.conversation or ""), ()):
            if live_turn.turn not in outbox.attachments:
                live_turn.attach(outbox, None, 0)

    def send_to_subscribers(self, user: str, conversation: str, frame: object) -> None:
        """Send a frame to the subscribers of the conversation in this process."""
        for outbox in tuple(self._subscriptions.get((user, conversation), ())):
            outbox.put(frame)


def _memory_bytes(live_turn: LiveTurn) -> int:
    """Return about how many bytes of memory an ended turn takes."""
    return TURN_MEMORY_BYTES + live_turn.log.end * EVENT_MEMORY_BYTES + live_turn.output_bytes
