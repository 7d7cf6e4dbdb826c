"""Attaches to turns, conversations and lists on the current socket, one request at a time.

Each attach to a turn replaces the previous one and replays events from a position. Two at the same time would deliver
its events twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from turnwire.client.errors import ConnectionLost, TurnwireError, from_record, gone_at_ending
from turnwire.client.followed import FollowedTurns
from turnwire.client.records import Accepted, ErrorRecord, TurnRecord
from turnwire.client.requests import Key
from turnwire.client.turn import Turn
from turnwire.client.watched import Watched

RETRY_S = 1.0
ENDED = ("completed", "cancelled", "failed")
TURNS_PER_REQUEST = 200
"""The number of positions in one request. They fit in a frame."""

Request = Callable[[str, dict[str, Any], str | None], Awaitable[Any]]


class Attachments:
    """`socket_number` returns that of the live socket, or None if there is none."""

    def __init__(self, request: Request, turns: FollowedTurns, socket_number: Callable[[], int | None]) -> None:
        self._request = request
        self._turns = turns
        self._socket_number = socket_number
        self._attached: set[Key] = set()
        """The turns whose events arrive, or are about to arrive, on the current socket."""
        self._detached_since_request: set[Key] = set()
        self._from_start: set[Key] = set()
        """The turns that were attached from their first event."""
        self._jobs: deque[tuple[int, Callable[[], Awaitable[None]]]] = deque()
        self._must_work = asyncio.Event()

    async def work(self) -> None:
        """Do the jobs, one after the other, until cancelled. A job for an earlier socket is dropped: on a new one,
        everything is attached again."""
        while True:
            await self._must_work.wait()
            self._must_work.clear()
            while self._jobs:
                number, job = self._jobs.popleft()
                if number == self._socket_number():
                    await job()

    def reset(self) -> None:
        """Forget all attachments. A new socket is ready."""
        self._attached.clear()
        self._detached_since_request.clear()
        self._from_start.clear()
        self._jobs.clear()

    def attach(self, turns: Iterable[Turn]) -> None:
        """Attach to turns from their positions."""
        by_user: dict[str | None, list[Turn]] = {}
        for turn in turns:
            by_user.setdefault(turn.user, []).append(turn)
        for user, of_user in by_user.items():
            for i in range(0, len(of_user), TURNS_PER_REQUEST):
                self._attach_later(user, of_user[i : i + TURNS_PER_REQUEST])

    def watch(self, watched: Watched) -> None:
        """Attach to a conversation and, from their positions, to its turns; or to the list of conversations."""
        self._enqueue(lambda: self._watch(watched))

    def mark_attached(self, turn: Turn) -> None:
        """Record that events of the turn arrive on this socket."""
        self._attached.add((turn.user, turn.id))

    def mark_detached(self, turn: Turn) -> None:
        """No more events of the turn arrive: it has ended or was detached."""
        key = (turn.user, turn.id)
        self._attached.discard(key)
        self._from_start.discard(key)
        self._detached_since_request.add(key)

    def begins_again(self, turn: Turn) -> bool:
        """Whether the first event may arrive a second time, which is true once for each attach from the start: the first
        one was on its way, because of an attached conversation, when the attach was sent."""
        key = (turn.user, turn.id)
        found = key in self._from_start
        self._from_start.discard(key)
        return found

    def _attach_later(self, user: str | None, turns: list[Turn]) -> None:
        self._enqueue(lambda: self._attach(user, turns))

    async def _attach(self, user: str | None, turns: list[Turn]) -> None:
        pending = self._unattached(turns)
        if not pending:
            return
        self._detached_since_request.clear()
        self._from_start.update((turn.user, turn.id) for turn in pending if turn.position.seq == 0)
        try:
            answer = await self._request("turn.attach", {"positions": _positions(pending)}, user)
        except TurnwireError as error:
            self._on_refused(user, pending, error)
            return
        for turn in pending:
            entry = answer["turns"].get(turn.id)
            if entry is None:
                continue
            if "error" in entry:
                self._on_refused(user, [turn], from_record(msgspec.convert(entry["error"], ErrorRecord)))
            else:
                self._on_attached(user, turn.id, entry)

    async def _watch(self, watched: Watched) -> None:
        if not watched.wanted:
            return
        user, fields = watched.user, dict(watched.fields)
        pending: list[Turn] = []
        if watched.conversation is not None:
            followed = [turn for turn in self._turns.running() if turn.conversation == watched.conversation]
            pending = self._unattached(turn for turn in followed if turn.user == user and turn.position.seq > 0)
            if pending:
                fields["positions"] = _positions(pending)
        self._detached_since_request.clear()
        try:
            answer = await self._request(watched.attach_type, fields, user)
        except TurnwireError as error:
            if isinstance(error, ConnectionLost):
                return  # the next socket attaches again
            if error.retryable:
                self._retry_later(error, lambda: self.watch(watched))
            else:
                watched.on_refused(error)
            return
        for turn_id, entry in answer.get("turns", {}).items():
            if "error" not in entry:
                self._on_attached(user, turn_id, entry)
        # `gone` doesn't say why a turn can't be attached. The answer to `turn.attach` does.
        self.attach(turn for turn in pending if turn.id in answer.get("gone", {}))
        watched.on_attached(answer)

    def _on_attached(self, user: str | None, turn_id: str, entry: dict[str, Any]) -> None:
        turn = self._turns.get(user, turn_id)
        if turn is not None:
            turn._accept(msgspec.convert({"turn": turn_id, **entry}, Accepted))
            if entry["status"] in ENDED and 0 < turn.position.seq == entry["from"]:
                self._enqueue(lambda: self._end_if_complete(turn))
        # `turn.detached` or the ending may have arrived before this answer.
        if (user, turn_id) not in self._detached_since_request:
            self._attached.add((user, turn_id))

    async def _end_if_complete(self, turn: Turn) -> None:
        """Fail a turn whose position is that of its ending, because no event follows.

        The answer to `turn.attach` doesn't say so: it may arrive before the events.
        """
        if turn.ended:
            return
        try:
            answer = await self._request("turn.get", {"turn": turn.id}, turn.user)
        except TurnwireError as error:
            self._on_refused(turn.user, [turn], error)
            return
        record = msgspec.convert(answer, TurnRecord)
        if record.seq <= turn.position.seq:
            self._turns.fail(turn, gone_at_ending(record.message.id if record.message else None))

    def _on_refused(self, user: str | None, turns: list[Turn], error: TurnwireError) -> None:
        if isinstance(error, ConnectionLost):
            return  # the next socket attaches again
        if error.retryable:
            self._retry_later(error, lambda: self._attach_later(user, turns))
            return
        for turn in turns:
            self._turns.fail(turn, error)

    def _unattached(self, turns: Iterable[Turn]) -> list[Turn]:
        return [turn for turn in turns if not turn.ended and (turn.user, turn.id) not in self._attached]

    def _enqueue(self, job: Callable[[], Awaitable[None]]) -> None:
        number = self._socket_number()
        if number is not None:
            self._jobs.append((number, job))
            self._must_work.set()

    def _retry_later(self, error: TurnwireError, again: Callable[[], None]) -> None:
        number = self._socket_number()

        def retry() -> None:
            if number == self._socket_number():
                again()

        delay_s = RETRY_S if error.retry_after_ms is None else error.retry_after_ms / 1000
        asyncio.get_running_loop().call_later(delay_s, retry)


def _positions(turns: Iterable[Turn]) -> dict[str, dict[str, int]]:
    return {turn.id: {"epoch": turn.position.epoch, "seq": turn.position.seq} for turn in turns}
