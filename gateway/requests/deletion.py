"""The deletion of a conversation: by its user, or after its retention."""

from __future__ import annotations

from gateway.protocol.events import ConversationDeleted
from gateway.requests.services import Services
from gateway.turns.abort import Abort

DELETED = Abort("client", "The conversation was deleted.")


async def delete_conversation(services: Services, user: str, conversation: str, abort: Abort = DELETED) -> None:
    """Cancel the conversation's turns with `abort`, delete it, and tell its subscribers on all instances.

    Raises `NotFound` and `StoreError`.
    """
    await services.store.conversation(user, conversation)
    await _end_turns(services, user, conversation, await services.store.active(user, conversation), abort)
    late = await services.store.delete_conversation(user, conversation)
    await _end_turns(services, user, conversation, late, abort)  # turns that were accepted while the others ended
    services.registry.drop_ended(user, conversation)
    await services.subscriptions.send(user, conversation, ConversationDeleted(conversation))


async def _end_turns(services: Services, user: str, conversation: str, active: list[str], abort: Abort) -> None:
    """Cancel the conversation's live turns here and the `active` turns anywhere. Wait until they have ended."""
    here = [live_turn.turn for live_turn in services.registry.live_in(user, conversation)]
    turns = list(dict.fromkeys([*here, *active]))
    await services.cancellation.cancel_and_wait(user, turns, abort)
