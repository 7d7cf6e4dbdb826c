"""Carries a connection over HTTP, with one stream of server-sent events per turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from turnwire.client.backoff import Backoff
from turnwire.client.carrier import Host
from turnwire.client.credentials import fresh
from turnwire.client.errors import ConnectionClosed, CredentialFailed, TurnwireError, WrongLoop, gone_at_ending
from turnwire.client.events import Durability, GoingAway, TurnDetached
from turnwire.client.http import HttpError, HttpResponse
from turnwire.client.http_api import HttpApi, unsupported
from turnwire.client.options import ConnectionState, Transport
from turnwire.client.probe import find_gateway
from turnwire.client.socket_carrier import OF_TURN
from turnwire.client.sse import EventParser
from turnwire.client.turn import Turn
from turnwire.client.watched import Watched

SILENCE_S = 37.5
"""The longest silence of a stream: 2.5 heartbeats."""
START_CODES = frozenset({"shutting_down", "store_unavailable", "http_error"})
"""After these, a start is repeated. Its id makes that safe."""


class HttpCarrier:
    """See `Carrier`."""

    name: Transport = "http"
    default_model: str | None = None

    def __init__(self, host: Host) -> None:
        self.state = ConnectionState("connecting")
        self.openings = 0
        self._host = host
        self._api = HttpApi(host.options)
        self._starting: set[str] = set()
        host.turns.attacher = None

    async def open(self) -> None:
        await find_gateway(self._host.options)
        await fresh(self._host.options.token)  # a function that fails is an error here, as it is for a socket
        self.use()

    def use(self) -> None:
        """Begin to use it. A gateway has answered."""
        self.openings = 1
        self._set_state(ConnectionState("live"))

    def start(self, turn: Turn, fields: dict[str, Any], on_failed: Callable[[TurnwireError], None]) -> None:
        if turn.user is not None:
            on_failed(_no_user())
            return
        self._starting.add(turn.id)
        self._host.tasks.start(self._follow(turn, {**fields, "turn": turn.id}))

    def follow(self, turn: Turn) -> None:
        if turn.user is not None:
            self._host.turns.fail(turn, _no_user())
            return
        self._host.tasks.start(self._follow(turn, None))

    def withdraw(self, turn: Turn) -> bool:
        return False

    def is_starting(self, turn: Turn) -> bool:
        return turn.id in self._starting

    def watch(self, watched: Watched) -> None:
        raise unsupported(f"{watched.attach_type} needs a WebSocket, and this connection uses HTTP")

    async def request(self, kind: str, fields: dict[str, Any], user: str | None) -> Any:
        if user is not None:
            raise _no_user()
        if kind == "turn.cancel":
            await self._settle_starts(fields.get("turns", ()))
        return await self._api.request(kind, fields)

    async def _settle_starts(self, turns: Iterable[str]) -> None:
        """Wait until the gateway knows these turns: a cancel could overtake a start, which is on another connection."""
        for turn_id in turns:
            turn = self._host.turns.get(None, turn_id)
            if turn is not None and turn_id in self._starting:
                with contextlib.suppress(TurnwireError):
                    await turn.accepted()

    async def close(self) -> None:
        self._close(ConnectionClosed("The connection was closed by this program. Connect again to go on."))

    def abandon(self) -> None:
        self._close(WrongLoop("The event loop of this connection is closed. Connect again in the loop that runs now."))

    def _close(self, error: TurnwireError) -> None:
        if self.state.state != "closed":
            self._set_state(ConnectionState("closed", error.message.rstrip(".")))
            self._host.on_closed(error)

    def _set_state(self, state: ConnectionState) -> None:
        self.state = state
        self._host.on_state(state)

    async def _follow(self, turn: Turn, fields: dict[str, Any] | None) -> None:
        """Read the turn's streams until it has ended."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        try:
            while not turn.ended:
                backoff.on_connecting()
                try:
                    async with await self._open(turn, fields) as response:
                        self._starting.discard(turn.id)
                        backoff.on_ready(loop.time())
                        await self._read(turn, response, backoff)
                except TurnwireError as error:
                    if not self._may_retry(error, starts=fields is not None and turn.position.seq == 0):
                        self._host.turns.fail(turn, error)
                    elif error.retry_after_ms is not None:
                        backoff.request(error.retry_after_ms / 1000)
                except (OSError, TimeoutError, HttpError, msgspec.DecodeError):
                    pass  # the network has failed, so the stream is opened again
                if turn.ended:
                    return
                backoff.on_lost(loop.time())
                await asyncio.sleep(backoff.delay_s(None))
        except asyncio.CancelledError:
            self._host.turns.fail(
                turn, ConnectionClosed("The connection was closed. Connect again, and attach to the turn.")
            )
            raise
        finally:
            self._starting.discard(turn.id)

    async def _open(self, turn: Turn, fields: dict[str, Any] | None) -> HttpResponse:
        """Start the turn, or continue it after its position."""
        headers = {"Accept": "text/event-stream"}
        position = turn.position
        if fields is not None and position.seq == 0:
            return await self._api.open("POST", "/v1/turns", fields, headers)
        if position.seq:
            headers["Last-Event-ID"] = f"{position.epoch}-{position.seq}"
        response = await self._api.open("GET", f"/v1/turns/{quote(turn.id, safe='')}/events", {}, headers)
        if response.status == 204:
            response.close()
            raise gone_at_ending()
        return response

    async def _read(self, turn: Turn, response: HttpResponse, backoff: Backoff) -> None:
        parser = EventParser()
        while not turn.ended:
            async with asyncio.timeout(SILENCE_S):
                piece = await response.piece()
            if not piece:
                break
            for frame in parser.feed(piece):
                if isinstance(frame, TurnDetached):
                    return
                if isinstance(frame, OF_TURN) or getattr(frame, "turn", None) is not None:
                    self._host.turns.receive(frame)  # type: ignore[arg-type]
                elif isinstance(frame, GoingAway | Durability):
                    self._host.on_event(frame)
        backoff.request(parser.retry_s)

    def _may_retry(self, error: TurnwireError, *, starts: bool) -> bool:
        if isinstance(error, CredentialFailed):
            return error.retryable
        return error.retryable and (not starts or error.code in START_CODES)


def _no_user() -> TurnwireError:
    return unsupported("Acting for a user needs a WebSocket, and this connection uses HTTP")
