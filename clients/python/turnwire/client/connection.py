"""The core of a `Gateway`: its turns and what it watches, over a carrier."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from turnwire.client.abort import AbortSignal, reason_text
from turnwire.client.audience import Audience, Item, Key
from turnwire.client.callbacks import OnChunk, OnComplete, OnError, report
from turnwire.client.carrier import Carrier
from turnwire.client.conversation import ConversationItem, Reattached
from turnwire.client.errors import CallbackFailed, ConnectFailed, ConnectionClosed, ProtocolMismatch, TurnwireError
from turnwire.client.events import (
    ConversationDeleted,
    ConversationsChanged,
    ConversationUpdated,
    GatewayEvent,
    TurnStarted,
    UnknownEvent,
)
from turnwire.client.followed import FollowedTurns
from turnwire.client.http_carrier import HttpCarrier
from turnwire.client.lifetime import reject, settle
from turnwire.client.options import ConnectionState, Options, Transport
from turnwire.client.probe import find_gateway
from turnwire.client.records import CancelOutcome, Position
from turnwire.client.requests import Pending
from turnwire.client.socket_carrier import SocketCarrier
from turnwire.client.subscription import Subscription
from turnwire.client.tasks import Tasks
from turnwire.client.turn import Turn
from turnwire.client.watched import Watched

CALLBACKS_S = 5.0
"""How long a connection that is closed waits for the callbacks of its turns."""


class Connection:
    """Made by `connect`. It is the owner of its turns, and the host of its carrier."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tasks = Tasks()
        self.turns = FollowedTurns(self._start_remote)
        self._closed: TurnwireError | None = None
        self._at_exit: weakref.finalize[..., Any] | None = None
        self._watched: dict[Key, Watched] = {}
        self._audience = Audience()
        self._reports: set[asyncio.Task[None]] = set()
        self._carrier: Carrier = HttpCarrier(self) if options.transport == "http" else SocketCarrier(self)

    async def open(self) -> None:
        """Open it. If the gateway answers, but lets no WebSocket through, use HTTP. Raise a `ConnectFailed`."""
        try:
            try:
                await self._carrier.open()
            except ConnectFailed as refused:
                if not refused.perhaps_blocked:
                    raise
                await self._open_over_http(refused)
        except BaseException:
            await self.tasks.close()
            raise

    async def _open_over_http(self, refused: ConnectFailed) -> None:
        """Use HTTP, if it is a gateway that has refused the socket. Raise a `ConnectFailed`."""
        try:
            await find_gateway(self.options)
        except ProtocolMismatch:
            raise
        except ConnectFailed:
            raise refused from None
        if self.options.transport != "auto" or self.options.ticket is not None:
            raise ConnectFailed(
                "The gateway answers, but its WebSocket doesn't open: a proxy may block it. Let it pass WebSockets, or use "
                "transport='auto' with a token.",
                code="websocket_blocked",
                retryable=False,
            )
        carrier = self._carrier = HttpCarrier(self)
        carrier.use()

    @property
    def transport(self) -> Transport:
        """What carries the events."""
        return self._carrier.name

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected."""
        return self._carrier.state

    @property
    def openings(self) -> int:
        """How many sockets it has opened."""
        return self._carrier.openings

    @property
    def default_model(self) -> str | None:
        """The gateway's default model, if known."""
        return self._carrier.default_model

    def check(self) -> None:
        """Raise a `ConnectionClosed`, or the gateway's error, if it can't be used here and now."""
        if not self.tasks.reachable:
            self.abandon()
        self.tasks.check()
        if self._closed is not None:
            raise self._closed.with_traceback(None)

    def running(self, user: str | None) -> list[Turn]:
        """Return the turns of a user that haven't ended."""
        return [turn for turn in self.turns.running() if turn.user == user]

    def start(self, fields: dict[str, Any], user: str | None, signal: AbortSignal | None) -> Turn:
        """Start a turn, or return the one that was started with the same id."""
        self.check()
        turn_id = fields.get("turn") or f"t_{secrets.token_hex(16)}"
        existing = self.turns.get(user, turn_id)
        if existing is not None:
            return existing
        turn = Turn(turn_id, user, self)
        if signal is not None and signal.aborted:
            turn._withdraw(reason_text(signal.reason))
            return turn
        self.turns.add(turn)
        if signal is not None:
            turn._on_end(signal.listen(lambda: self._cancel_soon(turn, signal.reason)))
        self._carrier.start(turn, fields, lambda error: self.turns.fail(turn, error))
        return turn

    def report(
        self, turn: Turn, on_chunk: OnChunk | None, on_error: OnError | None, on_complete: OnComplete | None
    ) -> None:
        """Call the callbacks until the turn has ended."""
        task = self.tasks.start(report(turn, on_chunk, on_error, on_complete, self._stop_after_callback))
        if task is not None:
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    def attach(self, turn_id: str, user: str | None, position: Position) -> Turn:
        """Follow a turn."""
        self.check()
        existing = self.turns.get(user, turn_id)
        if existing is not None:
            return existing
        turn = Turn(turn_id, user, self, position)
        self.turns.add(turn)
        self._carrier.follow(turn)
        return turn

    async def cancel_turn(self, turn: Turn, reason: object) -> CancelOutcome:
        """Cancel a turn."""
        if turn.ended:
            return "already_ended"
        outcomes = await self.cancel([turn.id], turn.user, reason_text(reason))
        return outcomes.get(turn.id, "already_ended")

    async def cancel(self, turns: Sequence[str], user: str | None, reason: str | None) -> dict[str, CancelOutcome]:
        """Cancel turns. A start that was never sent is withdrawn."""
        self.check()
        outcomes: dict[str, CancelOutcome] = {}
        sent: list[str] = []
        for turn_id in turns:
            turn = self.turns.get(user, turn_id)
            if turn is not None and self._carrier.withdraw(turn):
                self.turns.withdraw(turn, reason)
                outcomes[turn_id] = "withdrawn"
            else:
                sent.append(turn_id)
        if not sent:
            return outcomes
        answer = await self.request("turn.cancel", {"turns": sent, "reason": reason}, user)
        outcomes.update(answer["turns"])
        for turn_id in sent:
            turn = self.turns.get(user, turn_id)
            # A start that is still pending gets its own answer. Any other turn that isn't found no longer exists.
            if turn is not None and outcomes.get(turn_id) == "not_found" and not self._carrier.is_starting(turn):
                self.turns.fail(
                    turn, TurnwireError("The gateway no longer has this turn. Start it again.", code="not_found")
                )
        return outcomes

    async def request(self, kind: str, fields: dict[str, Any], user: str | None) -> Any:
        """Send a request and return its result."""
        self.check()
        return await self._carrier.request(
            kind, {name: value for name, value in fields.items() if value is not None}, user
        )

    async def attach_list(self, user: str | None) -> None:
        """Attach to the list of conversations."""
        await self._attach((user, None))

    async def detach_list(self, user: str | None) -> None:
        """Detach from the list of conversations."""
        await self._detach((user, None))

    async def attach_conversation(self, conversation: str, user: str | None) -> None:
        """Attach to a conversation."""
        await self._attach((user, conversation))

    async def detach_conversation(self, conversation: str, user: str | None) -> None:
        """Detach from a conversation."""
        await self._detach((user, conversation))

    async def ping(self) -> float:
        """Measure the round trip, in seconds."""
        began = time.perf_counter()
        await self.request("ping", {}, None)
        return time.perf_counter() - began

    def subscribe(self) -> Subscription[Item]:
        """Iterate what belongs to no turn."""
        self.check()
        return self._audience.subscribe()

    def subscribe_to(self, conversation: str, user: str | None) -> Subscription[ConversationItem]:
        """Iterate what happens in a conversation while it is attached."""
        self.check()
        return self._audience.subscribe_to((user, conversation))

    async def close(self) -> None:
        """Close it. Wait up to `CALLBACKS_S` for callbacks that run or still have to be called. No task is left."""
        if not self.tasks.reachable:
            self.abandon()
            return
        self.tasks.check()
        try:
            await self._carrier.close()
            reports = self._reports - {asyncio.current_task()}
            if reports:
                await asyncio.wait(reports, timeout=CALLBACKS_S)
        finally:
            await self.tasks.close()

    def abandon(self) -> None:
        """Give it up without its event loop, which is closed or belongs to another process."""
        self._carrier.abandon()
        self.tasks.abandon()

    def forget(self) -> None:
        """Close it when its running turns have ended: the program has forgotten it.

        This may be called in any thread, and when Python exits.
        """
        if not self.tasks.reachable:
            self.abandon()
        elif self.state.state != "closed":
            with contextlib.suppress(RuntimeError):
                self.tasks.loop.call_soon_threadsafe(self._close_when_idle)

    def _close_when_idle(self) -> None:
        running = self.turns.running()
        if running:
            running[0]._on_end(self._look_again)
            if self._at_exit is None:
                self._at_exit = weakref.finalize(asyncio, self._abandon_at_exit)
        else:
            self.tasks.cancel()
            self._forget_exit()

    def _forget_exit(self) -> None:
        if self._at_exit is not None:
            self._at_exit.detach()

    def _look_again(self) -> None:
        if self.tasks.reachable:
            self.tasks.loop.call_soon(self._close_when_idle)

    def _abandon_at_exit(self) -> None:
        if self.state.state != "closed":
            self.abandon()

    # The host of the carrier.

    async def use_http(self, moving: Callable[[], list[Pending] | None]) -> bool:
        """Go on over HTTP, if that is allowed and a gateway answers there."""
        if self.options.transport != "auto" or self.options.ticket is not None:
            return False
        try:
            await find_gateway(self.options)
        except ConnectFailed:
            return False
        turns = self.turns.running()
        if self.watched() or any(turn.user is not None for turn in turns) or (pending := moving()) is None:
            return False
        carrier = self._carrier = HttpCarrier(self)
        starts = {entry.frame["turn"]: entry for entry in pending if entry.start_of}
        for turn in turns:
            if turn.id in starts:
                self._start_again(turn, starts[turn.id])
            else:
                carrier.follow(turn)
        for entry in pending:
            if entry.start_of is None:
                self.tasks.start(self._request_again(entry))
        carrier.use()
        return True

    def _start_again(self, turn: Turn, entry: Pending) -> None:
        """Repeat a start. Its id makes that safe."""
        entry.future.cancel()  # the turn's own events answer it
        self._carrier.start(turn, entry.fields, lambda error: self.turns.fail(turn, error))

    async def _request_again(self, entry: Pending) -> None:
        try:
            settle(entry.future, await self._carrier.request(entry.frame["type"], entry.fields, None))
        except TurnwireError as error:
            reject(entry.future, error)

    def watched(self) -> list[Watched]:
        """Return what is attached on every socket."""
        return [watched for watched in self._watched.values() if watched.wanted]

    def on_event(self, event: GatewayEvent | UnknownEvent | TurnStarted) -> None:
        """Hand on an event that belongs to no turn."""
        if isinstance(event, TurnStarted):
            return  # of a conversation that isn't attached any more
        if isinstance(event, ConversationUpdated | ConversationDeleted):
            key = (event.user, event.conversation)
            if isinstance(event, ConversationDeleted) and key in self._watched:
                self._watched[key].wanted = False
            self._audience.tell_of(key, event)
        self._audience.tell(event)

    def on_state(self, state: ConnectionState) -> None:
        """Hand on a new state."""
        self._audience.tell(state)

    def on_closed(self, error: TurnwireError) -> None:
        """End everything: the connection is closed for good."""
        self._closed = error
        self._forget_exit()
        for watched in self._watched.values():
            watched.on_refused(error)
        for turn in self.turns.running():
            self.turns.fail(turn, error)
        self._audience.close()

    async def _attach(self, key: Key) -> None:
        self.check()
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = Watched(*key, self._reattached(key))
        if not watched.wanted:
            watched.wanted = True
            try:
                self._carrier.watch(watched)
            except TurnwireError:
                watched.wanted = False
                raise
        await watched.answered()

    async def _detach(self, key: Key) -> None:
        self.check()
        watched = self._watched.pop(key, None)
        if watched is None or not watched.wanted:
            return
        watched.detach()
        if self.state.state == "live":
            await self.request(watched.detach_type, watched.fields, watched.user)

    def _reattached(self, key: Key) -> Callable[[int], None]:
        user, conversation = key

        def on_again(revision: int) -> None:
            if conversation is None:  # changes in between are lost: the program has to list the conversations again
                self.on_event(ConversationsChanged(user=user, change="reattached"))
            else:
                self._audience.tell_of(key, Reattached(conversation, revision))

        return on_again

    def _start_remote(self, event: TurnStarted) -> Turn | None:
        """Return a turn that another program has started in an attached conversation."""
        key = (event.user, event.conversation)
        watched = self._watched.get(key) if event.conversation is not None else None
        if watched is None or not watched.wanted:
            return None
        turn = Turn(event.turn, event.user, self)
        self._audience.tell_of(key, turn)
        return turn

    def _cancel_soon(self, turn: Turn, reason: object) -> None:
        if not turn.ended:
            self.tasks.start(self._cancel_quietly(turn, reason))

    async def _cancel_quietly(self, turn: Turn, reason: object) -> None:
        """Cancel a turn whose signal was aborted. If that fails for good, so does the turn."""
        try:
            await self.cancel_turn(turn, reason)
        except ConnectionClosed:
            return
        except TurnwireError as error:
            self.turns.fail(turn, error)

    def _stop_after_callback(self, turn: Turn, failure: CallbackFailed) -> None:
        """Cancel a turn one of whose callbacks has failed."""
        if turn.ended:
            turn._fail_late(failure)
            return
        self.turns.fail(turn, failure)
        self.tasks.start(self._cancel_failed(turn))

    async def _cancel_failed(self, turn: Turn) -> None:
        try:
            await self._carrier.request(
                "turn.cancel", {"turns": [turn.id], "reason": "a callback has failed"}, turn.user
            )
        except TurnwireError:
            return
