"""What carries the turns and requests of a connection: a socket, or HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from turnwire.client.errors import TurnwireError
from turnwire.client.events import GatewayEvent, TurnStarted, UnknownEvent
from turnwire.client.followed import FollowedTurns
from turnwire.client.options import ConnectionState, Options, Transport
from turnwire.client.requests import Pending
from turnwire.client.tasks import Tasks
from turnwire.client.turn import Turn
from turnwire.client.watched import Watched


class Host(Protocol):
    """The connection, for its carrier."""

    options: Options
    tasks: Tasks
    turns: FollowedTurns

    def on_event(self, event: GatewayEvent | UnknownEvent | TurnStarted) -> None:
        """An event that belongs to no turn has arrived."""

    def on_state(self, state: ConnectionState) -> None:
        """The state has changed."""

    def on_closed(self, error: TurnwireError) -> None:
        """The connection is closed for good."""

    def watched(self) -> list[Watched]:
        """Return what is attached on every socket."""

    async def use_http(self, moving: Callable[[], list[Pending] | None]) -> bool:
        """Go on over HTTP if a gateway answers there. Return whether it does.

        `moving` returns the requests without an answer, or None if they need a socket.
        """


class Carrier(Protocol):
    """Carries turns and requests."""

    name: Transport

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected."""

    @property
    def openings(self) -> int:
        """How often it was opened."""

    @property
    def default_model(self) -> str | None:
        """The gateway's default model, if known."""

    async def open(self) -> None:
        """Open it. Raise a `ConnectFailed`."""

    def start(self, turn: Turn, fields: dict[str, Any], on_failed: Callable[[TurnwireError], None]) -> None:
        """Start a turn that is followed already."""

    def follow(self, turn: Turn) -> None:
        """Attach to a turn that is followed already, from its position."""

    def withdraw(self, turn: Turn) -> bool:
        """Withdraw a start. Return False if the gateway may have accepted it."""

    def is_starting(self, turn: Turn) -> bool:
        """Whether the turn's start has no answer yet."""

    def watch(self, watched: Watched) -> None:
        """Attach to a conversation or a list, if there is a socket. Raise a TurnwireError if there never is one."""

    async def request(self, kind: str, fields: dict[str, Any], user: str | None) -> Any:
        """Send a request and return its result."""

    async def close(self) -> None:
        """Close it for good."""

    def abandon(self) -> None:
        """Give it up without its event loop."""
