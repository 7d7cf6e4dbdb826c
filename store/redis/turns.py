"""Turns in Redis: acceptance, log and ending. Each is one script over the keys of one user."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import structs

from store.api import conversation_channel, turn_channel
from store.errors import NotFound, StoreError
from store.records import (
    Accepted,
    Append,
    Appended,
    ConversationRecord,
    EndedTurn,
    LogEntry,
    NewTurn,
    RunningGroups,
    TurnRecord,
)
from store.redis.client import RedisPart, ScriptCall
from store.redis.keys import user_prefix
from store.redis.leases import index_calls
from store.redis.records import conversation_record, pack, parse_reply, turn_record

LOG_READ_BYTES = 2**20
APPENDS_PER_CALL = 1000
APPEND_BYTES_PER_CALL = 4 * 2**20

_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(LogEntry).decode


class RedisTurns(RedisPart):
    """`TurnStore` in Redis."""

    _on_accepted: Callable[[str, list[bytes]], None] | None = None

    def call_on_accepted(self, callback: Callable[[str, list[bytes]], None]) -> None:
        """Call `callback` for each turn that is accepted in a conversation, with the user and the conversation's fields."""
        self._on_accepted = callback

    async def accept(self, new: NewTurn) -> Accepted:
        """See `TurnStore`. Repeating the same call returns `is_new` True again while the turn runs and has no events."""
        return await self.accept_or_look(new)

    async def accept_or_look(self, new: NewTurn, *, look: bool = False) -> Accepted:
        """Do `accept`. With `look`, raise `Cold` if the turn's conversation isn't in Redis but may be in the archive."""
        channel = conversation_channel(new.user, new.conversation_id or "")
        # If the turn is refused, the index has a wrong entry until `expired_leases` removes it; the index is a hint.
        prefix = user_prefix(new.user)
        arguments = (pack(new), channel, await self._client.deadline_ms(prefix), int(look))
        (reply,) = await self._change_history(
            new.user, [("accept", prefix, arguments)], hints=index_calls([(new.user, new.turn)], new.lease_ms, "NX")
        )
        outcome, result = reply[0], parse_reply(reply)
        if outcome == b"exists":
            return Accepted(is_new=False, turn=turn_record(new.user, result[0], in_conversation=bool(result[1])))
        turn_fields, conversation_fields, parent, ahead, groups = result
        if self._on_accepted is not None and conversation_fields:
            self._on_accepted(new.user, conversation_fields)
        return Accepted(
            is_new=True,
            turn=structs.replace(turn_record(new.user, turn_fields, in_conversation=True), request=new.request),
            conversation=conversation_record(new.user, conversation_fields) if conversation_fields else None,
            input=new.input and structs.replace(new.input, parent=parent and parent.decode()),
            ahead=tuple(other.decode() for other in ahead),
            running_groups=_decode_groups(groups),
        )

    async def append(self, appends: list[Append]) -> list[Appended]:
        """See `TurnStore`. If Redis refuses all appends of a round trip, for example because it is full, raise `StoreError`.

        Later ones aren't sent then. Repeating all is harmless.
        """
        results: list[Appended] = []
        calls: list[ScriptCall] = []
        size = 0
        for new in appends:
            if len(calls) == APPENDS_PER_CALL or size > APPEND_BYTES_PER_CALL:
                results += await self._append(calls)
                calls, size = [], 0
            entry = _encode(LogEntry(new.epoch, new.first, new.last, new.payload))
            arguments = (new.turn, new.epoch, new.first, new.last, entry, turn_channel(new.user, new.turn))
            calls.append(("append", user_prefix(new.user), arguments))
            size += len(new.payload)
        return results + await self._append(calls) if calls else results

    async def _append(self, calls: list[ScriptCall]) -> list[Appended]:
        return [
            Appended("stored", reply)
            if isinstance(reply, int)
            else Appended("unavailable", 0)
            if isinstance(reply, StoreError)
            else Appended(reply[0].decode(), reply[1], reply[2])
            for reply in await self._client.scripts_apart(calls)
        ]

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `TurnStore`."""
        return await self.end_or_look(ended)

    async def end_or_look(self, ended: EndedTurn, *, look: bool = False) -> ConversationRecord | None:
        """Do `end`. With `look`, raise `Cold` if the turn's conversation isn't in Redis but may be in the archive."""
        events = ended.events
        entry = _encode(LogEntry(events.epoch, events.first, events.last, events.payload))
        arguments = (pack(ended), entry, turn_channel(ended.user, ended.turn), int(look))
        (reply,) = await self._change_history(ended.user, [("end", user_prefix(ended.user), arguments)], durable=True)
        (fields,) = parse_reply(reply)
        return conversation_record(ended.user, fields) if fields else None

    async def turn(self, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
        """See `TurnStore`. If the turn's lease has expired, also add it to the index, which may have lost it."""
        fields, in_conversation, is_expired = await self._script("turn", user, turn, int(with_request))
        if not fields:
            raise NotFound("turn")
        if is_expired:
            await self._client.scripts(index_calls([(user, turn)], 0, "NX"))
        return turn_record(user, fields, in_conversation=bool(in_conversation))

    async def running(self, user: str, turns: list[str]) -> list[bool | None]:
        """See `TurnStore`."""
        statuses = await self._script("running", user, *turns)
        return [None if not status else status == b"running" for status in statuses]

    async def log(self, user: str, turn: str, after: int) -> list[LogEntry]:
        """See `TurnStore`."""
        entries = await self._script("log", user, turn, after, LOG_READ_BYTES)
        return [_decode_entry(entry) for entry in entries]

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """See `TurnStore`."""
        (turns,) = parse_reply(await self._script("active", user, conversation or ""))
        return [turn.decode() for turn in turns]

    async def running_groups(self, user: str, turn: str, running_max: int) -> RunningGroups:
        """See `TurnStore`."""
        if not running_max:
            return ()
        return _decode_groups(await self._script("running_groups", user, turn, running_max))


def _decode_groups(groups: list[list[bytes]]) -> RunningGroups:
    return tuple(tuple(turn.decode() for turn in group) for group in groups)
