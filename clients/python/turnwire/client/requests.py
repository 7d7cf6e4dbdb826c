"""Matches answers to requests. Requests wait while there is no socket, and some are sent again on the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from turnwire.client.codecs import ErrorAnswer, Result, ResultPiece
from turnwire.client.errors import ConnectionLost, TurnwireError, from_record
from turnwire.client.lifetime import reject, settle

IDEMPOTENT = frozenset(
    {
        *("turn.start", "turn.cancel", "turn.get", "turn.estimate", "models.list", "usage.get", "conversation.list"),
        *("conversation.get", "conversation.messages", "feedback.put", "ping"),
    }
)
"""Requests that can be sent twice without harm."""

Key = tuple[str | None, str]
"""A user (`as`) and the id of a turn."""


class Pending:
    """A request without an answer."""

    __slots__ = ("frame", "future", "is_elsewhere", "pieces", "sent")

    def __init__(self, frame: dict[str, Any], future: asyncio.Future[Any]) -> None:
        self.frame = frame
        self.future = future
        self.sent = False
        self.is_elsewhere = False
        self.pieces: list[str] = []

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the request, without its type and its id."""
        return {name: value for name, value in self.frame.items() if name not in ("type", "id")}

    @property
    def start_of(self) -> Key | None:
        """The turn that it starts."""
        return (self.frame.get("as"), self.frame["turn"]) if self.frame["type"] == "turn.start" else None


class Requests:
    """The unanswered requests of one connection.

    `send_frame` sends a frame or returns False; `too_large` takes over a request whose frame is too large, or returns False.
    """

    def __init__(self, send_frame: Callable[[dict[str, Any]], bool], too_large: Callable[[Pending], bool]) -> None:
        self._send_frame = send_frame
        self._too_large = too_large
        self._pending: dict[str, Pending] = {}
        self._starts: dict[Key, Pending] = {}
        self._next = 0

    def send(self, kind: str, fields: dict[str, Any], user: str | None) -> asyncio.Future[Any]:
        """Send a request now, or when the next socket is ready. The future has its result or a TurnwireError."""
        self._next += 1
        request_id = str(self._next)
        frame: dict[str, Any] = {"type": kind, "id": request_id, **fields}
        if user is not None:
            frame["as"] = user
        entry = Pending(frame, asyncio.get_running_loop().create_future())
        self._pending[request_id] = entry
        if key := entry.start_of:
            self._starts[key] = entry
        entry.future.add_done_callback(lambda _: self._remove(entry))
        self._try_send(entry)
        return entry.future

    def receive(self, answer: Result | ResultPiece | ErrorAnswer) -> None:
        """Handle an answer. Ignore one to a request that isn't waiting any more."""
        entry = self._pending.get(answer.id or "")
        if entry is None:
            return
        if isinstance(answer, ResultPiece):
            entry.pieces.append(answer.text)
        elif isinstance(answer, Result):
            try:
                result = msgspec.json.decode("".join(entry.pieces)) if answer.pieces else answer.result
            except msgspec.DecodeError:
                self._reject(
                    entry,
                    TurnwireError("The pieces of the answer don't fit together. Try again.", code="invalid_answer"),
                )
                return
            self._settle(entry, result)
        elif answer.error.code == "shutting_down" and entry.start_of:
            entry.sent = False  # nothing was stored, so it is sent again on the next socket
        else:
            self._reject(entry, from_record(answer.error))

    def resume(self) -> None:
        """Send all of them, in order. A socket is ready."""
        for entry in tuple(self._pending.values()):
            self._try_send(entry)

    def interrupt(self) -> None:
        """Reject those that were sent and can't be repeated. The socket is lost."""
        for entry in tuple(self._pending.values()):
            entry.pieces = []
            if entry.sent and not _is_idempotent(entry.frame):
                self._reject(
                    entry,
                    ConnectionLost(
                        "The connection was lost before the answer came, and the gateway may have handled the request. "
                        "Look whether it has, then try again."
                    ),
                )

    @property
    def act_for_users(self) -> bool:
        """Whether one of them is in the name of another user."""
        return any("as" in entry.frame for entry in self._pending.values())

    def take(self) -> list[Pending]:
        """Return all of them, in order. Who takes them answers them."""
        entries, self._pending = list(self._pending.values()), {}
        self._starts.clear()
        return entries

    def close(self, error: TurnwireError) -> None:
        """Reject all of them. The connection is closed for good."""
        for entry in tuple(self._pending.values()):
            self._reject(entry, error)

    def is_starting(self, key: Key) -> bool:
        """Whether the turn's start has no answer yet."""
        return key in self._starts

    def settle_start(self, key: Key, result: dict[str, Any]) -> None:
        """Settle a start whose turn has sent events already."""
        if entry := self._starts.get(key):
            self._settle(entry, result)

    def withdraw_start(self, key: Key) -> bool:
        """Withdraw a start. Return False if there is none, or the gateway may have accepted it."""
        entry = self._starts.get(key)
        if entry is None or entry.sent:
            return False
        entry.future.cancel()
        self._remove(entry)
        return True

    def _settle(self, entry: Pending, result: Any) -> None:
        self._remove(entry)
        settle(entry.future, result)

    def _reject(self, entry: Pending, error: TurnwireError) -> None:
        self._remove(entry)
        reject(entry.future, error)

    def _remove(self, entry: Pending) -> None:
        self._pending.pop(entry.frame["id"], None)
        key = entry.start_of
        if key and self._starts.get(key) is entry:
            del self._starts[key]

    def _try_send(self, entry: Pending) -> None:
        if entry.is_elsewhere:
            return
        try:
            # `sent` stays true across sockets: the gateway may have handled the request without an answer.
            if self._send_frame(entry.frame):
                entry.sent = True
        except TurnwireError as error:
            entry.is_elsewhere = self._too_large(entry)
            if not entry.is_elsewhere:
                self._reject(entry, error)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._reject(
                entry,
                TurnwireError(
                    f"A field can't be sent: {error}. Use texts, numbers, lists and dicts.", code="invalid_request"
                ),
            )


def _is_idempotent(frame: dict[str, Any]) -> bool:
    return frame["type"] in IDEMPOTENT or (frame["type"] == "conversation.create" and "conversation" in frame)
