"""Carries a connection over a WebSocket that is opened again after a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from turnwire.client.attachments import Attachments
from turnwire.client.carrier import Host
from turnwire.client.codecs import ErrorAnswer, Frame, Result, ResultPiece
from turnwire.client.credentials import fresh
from turnwire.client.errors import TurnwireError, WrongLoop
from turnwire.client.events import (
    ConversationDeleted,
    ConversationsChanged,
    ConversationUpdated,
    Ready,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnDetached,
    TurnFailedEvent,
    TurnPart,
    TurnReset,
    TurnStarted,
    TurnStatus,
    UnknownEvent,
)
from turnwire.client.http_api import HttpApi
from turnwire.client.lifetime import reject, settle
from turnwire.client.options import ConnectionState, Transport
from turnwire.client.records import Accepted
from turnwire.client.requests import Pending, Requests
from turnwire.client.socket_link import SocketLink
from turnwire.client.turn import Turn
from turnwire.client.watched import Watched

OF_TURN = (
    *(TurnDelta, TurnPart, TurnStarted, TurnStatus, TurnReset, TurnCompleted, TurnCancelled, TurnFailedEvent),
    TurnDetached,
)
ANSWERS = (Result, ResultPiece)


class SocketCarrier:
    """See `Carrier`. It is also what its socket reports to (`Listener`)."""

    name: Transport = "socket"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._link = SocketLink(host.options, host.tasks, self)
        self._requests = Requests(self._link.send, self._too_large)
        self._attachments = Attachments(
            self.request, host.turns, lambda: self._link.number if self._link.live else None
        )
        self._renewed: str | None = None
        host.turns.attacher = self

    @property
    def state(self) -> ConnectionState:
        return self._link.state

    @property
    def openings(self) -> int:
        return self._link.number

    @property
    def default_model(self) -> str | None:
        return self._link.ready.default_model if self._link.ready else None

    async def open(self) -> None:
        await self._link.open()
        self._host.tasks.start(self._attachments.work())

    def start(self, turn: Turn, fields: dict[str, Any], on_failed: Callable[[TurnwireError], None]) -> None:
        future = self._requests.send("turn.start", {**fields, "turn": turn.id}, turn.user)

        def on_done(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is None:
                turn._accept(_accepted(done.result()))
            elif isinstance(error, TurnwireError):
                on_failed(error)

        future.add_done_callback(on_done)

    def follow(self, turn: Turn) -> None:
        self._attachments.attach([turn])

    def withdraw(self, turn: Turn) -> bool:
        return self._requests.withdraw_start((turn.user, turn.id))

    def is_starting(self, turn: Turn) -> bool:
        return self._requests.is_starting((turn.user, turn.id))

    def watch(self, watched: Watched) -> None:
        self._attachments.watch(watched)

    async def request(self, kind: str, fields: dict[str, Any], user: str | None) -> Any:
        return await self._requests.send(kind, fields, user)

    async def close(self) -> None:
        await self._link.close()

    def abandon(self) -> None:
        self._link.abandon()
        self.on_closed(
            WrongLoop("The event loop of this connection is closed. Connect again in the loop that runs now.")
        )

    # The attacher of the followed turns.

    def attach(self, turns: list[Turn]) -> None:
        self._attachments.attach(turns)

    def detach(self, turn: Turn) -> None:
        self._requests.send("turn.detach", {"turn": turn.id}, turn.user)

    def mark_attached(self, turn: Turn) -> None:
        self._attachments.mark_attached(turn)

    def mark_detached(self, turn: Turn) -> None:
        self._attachments.mark_detached(turn)

    def begins_again(self, turn: Turn) -> bool:
        return self._attachments.begins_again(turn)

    # The listener of the socket.

    def on_frame(self, frame: Frame) -> None:
        if isinstance(frame, OF_TURN):
            known = self._host.turns.receive(frame)
            if not known and isinstance(frame, TurnStarted):
                self._host.on_event(frame)
        elif isinstance(frame, ANSWERS) or (isinstance(frame, ErrorAnswer) and frame.id is not None):
            self._requests.receive(frame)
        elif isinstance(frame, ConversationUpdated | ConversationDeleted | ConversationsChanged):
            self._host.on_event(frame)
        elif not isinstance(frame, ErrorAnswer | Ready):
            followed = isinstance(frame, UnknownEvent) and frame.turn is not None and self._host.turns.receive(frame)
            if not followed:
                self._host.on_event(frame)

    def on_live(self, ready: Ready) -> None:
        self._attachments.reset()
        self._requests.resume()
        for watched in self._host.watched():
            self._attachments.watch(watched)
        # When this request is sent, it leaves out the turns that were attached with their conversation.
        self._attachments.attach(turn for turn in self._host.turns.running() if not self.is_starting(turn))

    def on_interrupted(self) -> None:
        for turn in self._host.turns.running():
            if turn.position.seq > 0:
                # Events have arrived, so the start isn't sent again: that would replay from the first event. The next
                # socket attaches from the position.
                accepted = {"turn": turn.id, "conversation": turn.conversation, "status": turn.status}
                self._requests.settle_start((turn.user, turn.id), {**accepted, "epoch": turn.position.epoch})
        self._requests.interrupt()

    def on_closed(self, error: TurnwireError) -> None:
        self._requests.close(error)
        self._host.on_closed(error)

    def on_state(self, state: ConnectionState) -> None:
        self._host.on_state(state)

    def on_expiring(self, expires_at: str) -> None:
        # Each expiry causes one attempt: if a renewal left the expiry unchanged, another one probably would too.
        options = self._host.options
        credential = options.token or options.ticket
        if callable(credential) and expires_at != self._renewed:
            self._renewed = expires_at
            self._host.tasks.start(self._renew())

    def on_wake(self) -> None:
        self._requests.send("ping", {}, None)

    async def on_blocked(self) -> bool:
        return await self._host.use_http(lambda: None if self._requests.act_for_users else self._requests.take())

    async def _renew(self) -> None:
        """Renew the credential on the open socket. If that fails, the next socket gets a fresh one anyway."""
        options = self._host.options
        try:
            token = await fresh(options.token or options.ticket)
            await self.request("auth", {"token": token}, None)
        except TurnwireError:
            return

    def _too_large(self, entry: Pending) -> bool:
        """Send a start that is too large for a frame over HTTP. Return False if that isn't possible."""
        frame = entry.frame
        options = self._host.options
        if frame["type"] not in ("turn.start", "turn.estimate") or "as" in frame or options.ticket is not None:
            return False
        return self._host.tasks.start(self._start_over_http(entry)) is not None

    async def _start_over_http(self, entry: Pending) -> None:
        fields = entry.fields
        try:
            result = await HttpApi(self._host.options).request(entry.frame["type"], fields)
        except TurnwireError as error:
            reject(entry.future, error)
            return
        settle(entry.future, result)
        turn = self._host.turns.get(None, fields.get("turn", ""))
        if turn is not None:
            self._attachments.attach([turn])


def _accepted(result: dict[str, Any]) -> Accepted:
    return Accepted(
        turn=result["turn"],
        conversation=result.get("conversation"),
        status=result.get("status", "running"),
        epoch=result.get("epoch", 0),
    )
