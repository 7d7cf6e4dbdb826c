"""Turns in Redis: acceptance, log and ending. Each is one script over the keys of one user."""

from __future__ import annotations

import msgspec
from msgspec import structs

from store.api import conversation_channel, turn_channel
from store.records import (
    Accepted,
    Append,
    Appended,
    ConversationRecord,
    EndedTurn,
    LogEntry,
    NewTurn,
    NotFound,
    Slots,
    TurnRecord,
)
from store.redis.client import ClientHolder, ScriptCall
from store.redis.keys import bucket_of, index_member, raw, user_prefix
from store.redis.records import accepted, conversation_record, packed, turn_record

LOG_READ_BYTES = 2**20
APPENDS_PER_CALL = 1000
APPEND_BYTES_PER_CALL = 4 * 2**20

_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(LogEntry).decode


class RedisTurns(ClientHolder):
    """The part of the Redis store that accepts, logs and ends turns."""

    async def accept(self, new: NewTurn) -> Accepted:
        """See `Store`. Repeating the same call returns `fresh` True again while the turn runs and has no events."""
        made = new.new_conversation
        conversation = new.conversation if made is None else made.id
        channel = conversation_channel(new.user, conversation or "")
        member = index_member(new.user, new.turn)
        # If the turn is refused, the index has a wrong entry until `expired_leases` removes it; the index is a hint.
        reply, _ = await self._client.scripts(
            [
                ("accept", user_prefix(new.user), (packed(new), channel, await self._client.deadline_ms())),
                ("index", bucket_of(new.user, new.turn), (new.lease_ms, "NX", member)),
            ]
        )
        outcome, answer = reply[0], accepted(reply)
        if outcome == b"known":
            turn = turn_record(new.user, answer[0], in_conversation=bool(answer[1]))
            return Accepted(fresh=False, turn=turn)
        record, kept, parent, ahead, slots = answer
        return Accepted(
            fresh=True,
            turn=structs.replace(turn_record(new.user, record, in_conversation=True), request=new.request),
            conversation=conversation_record(new.user, kept) if kept else None,
            input=new.input and structs.replace(new.input, parent=parent and parent.decode()),
            ahead=tuple(other.decode() for other in ahead),
            slots=_slots(slots),
        )

    async def append(self, appends: list[Append]) -> list[Appended]:
        """See `Store`. If Redis refuses an append, for example because it is full, raise `StoreError`.

        The other appends are stored all the same. Repeating all of them is harmless.
        """
        answers: list[Appended] = []
        calls: list[ScriptCall] = []
        size = 0
        for one in appends:
            if len(calls) == APPENDS_PER_CALL or size > APPEND_BYTES_PER_CALL:
                answers += await self._append(calls)
                calls, size = [], 0
            calls.append(_append_call(one))
            size += len(one.payload)
        return answers + await self._append(calls) if calls else answers

    async def _append(self, calls: list[ScriptCall]) -> list[Appended]:
        return [
            Appended("stored", reply) if isinstance(reply, int) else Appended(reply[0].decode(), reply[1], reply[2])
            for reply in await self._client.scripts(calls)
        ]

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `Store`."""
        events = ended.events
        entry = _encode(LogEntry(events.epoch, events.first, events.last, events.payload))
        (kept,) = accepted(
            await self._client.script(
                "end",
                user_prefix(ended.user),
                packed(ended),
                entry,
                turn_channel(ended.user, ended.turn),
                durable=True,
            )
        )
        return conversation_record(ended.user, kept) if kept else None

    async def turn(self, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
        """See `Store`. If the turn's lease has lapsed, also add it to the index, which may have lost it."""
        kept, in_conversation, lapsed = await self._client.script(
            "turn", user_prefix(user), raw(turn), int(with_request)
        )
        if not kept:
            raise NotFound("turn")
        if lapsed:
            await self._client.script("index", bucket_of(user, turn), 0, "NX", index_member(user, turn))
        return turn_record(user, kept, in_conversation=bool(in_conversation))

    async def running(self, user: str, turns: list[str]) -> list[bool | None]:
        """See `Store`."""
        stands = await self._client.script("running", user_prefix(user), *map(raw, turns))
        return [None if not stand else stand == b"running" for stand in stands]

    async def log(self, user: str, turn: str, after: int) -> list[LogEntry]:
        """See `Store`."""
        entries = await self._client.script("log", user_prefix(user), raw(turn), after, LOG_READ_BYTES)
        return [_decode_entry(entry) for entry in entries]

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """See `Store`."""
        (turns,) = accepted(await self._client.script("active", user_prefix(user), raw(conversation or "")))
        return [turn.decode() for turn in turns]

    async def running_groups(self, user: str, turn: str, running: int) -> Slots:
        """See `Store`."""
        return (
            _slots(await self._client.script("running_groups", user_prefix(user), raw(turn), running))
            if running
            else ()
        )


def _slots(found: list[list[bytes]]) -> Slots:
    return tuple(tuple(turn.decode() for turn in slot) for slot in found)


def _append_call(one: Append) -> ScriptCall:
    entry = _encode(LogEntry(one.epoch, one.first, one.last, one.payload))
    channel = turn_channel(one.user, one.turn)
    return "append", user_prefix(one.user), (one.turn, one.epoch, one.first, one.last, entry, channel)
