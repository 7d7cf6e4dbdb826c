"""Operations for operators with the scope `admin`: list turns and connections, stop a turn, close, drain."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from starlette.background import BackgroundTask
from starlette.responses import Response

from gateway.drain import drain
from gateway.http.operation import RequestContext
from gateway.http.request_body import from_body, from_query
from gateway.http.responses import NO_STORE, Json
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import rfc3339
from gateway.protocol.plain_text import PLAIN
from gateway.protocol.results import Nothing, TurnState
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.state import shown_status

Name = Annotated[str, Meta(min_length=1, max_length=1000, pattern=PLAIN)]
Reason = Annotated[str, Meta(max_length=500)]

CLOSED = "An operator closed this connection. Ask the operator before you reconnect."


class AdminList(p.Request, frozen=True, tag="admin.list"):
    """List the turns or connections of this instance: of `user`, or of all users."""

    user: Name | None = None


class AdminStop(p.Request, frozen=True, tag="admin.stop"):
    """Cancel a turn. `user` is required if it runs on another instance, or if several users have a turn with this id."""

    turn: Name
    user: Name | None = None
    reason: Reason | None = None


class AdminClose(p.Request, frozen=True, tag="admin.close"):
    """Close a connection of this instance with the close code 4403, so that its client doesn't reconnect by itself."""

    connection: Name


class AdminDrain(p.Request, frozen=True, tag="admin.drain"):
    """Accept no new turns and sockets, as after SIGTERM, but keep running until the process is stopped."""


class RunningTurn(Struct, frozen=True):
    """A turn that runs on this instance. `readers` is the number of clients that are attached to it here."""

    turn: str
    user: str
    conversation: str | None
    model: str
    status: TurnState
    epoch: int
    seq: int
    readers: int


class LiveTurns(Struct, frozen=True):
    """The turns that run on this instance, oldest first."""

    instance: str
    turns: list[RunningTurn]


class LiveConnection(Struct, frozen=True):
    """A client connection of this instance, with the number of attached turns and the bytes that wait to be sent."""

    connection: str
    user: str
    transport: str
    opened_at: str
    turns: int
    waiting_bytes: int


class LiveConnections(Struct, frozen=True):
    """The client connections of this instance, oldest first."""

    instance: str
    connections: list[LiveConnection]


class Stopped(Struct, frozen=True):
    """The result for each turn, by its id."""

    turns: dict[str, str]


async def turns(context: RequestContext) -> Response:
    """List the turns that run on this instance, of one user if the query names a user. Raises `ApiError`."""
    user = _asked(context).user
    live = [
        RunningTurn(
            turn=one.turn,
            user=one.user,
            conversation=one.conversation,
            model=one.model,
            status=shown_status(one.state),
            epoch=one.epoch,
            seq=one.log.end,
            readers=one.readers,
        )
        for one in context.services.registry.live(user)
        if one.owned
    ]
    return Json(LiveTurns(context.services.instance, live), 200, NO_STORE)


async def connections(context: RequestContext) -> Response:
    """List the clients of this instance, of one user if the query names a user. Raises `ApiError`."""
    user = _asked(context).user
    live = [
        LiveConnection(
            connection=one.id,
            user=one.user,
            transport=one.transport,
            opened_at=rfc3339(one.opened_ms),
            turns=len(one.outbox.attachments),
            waiting_bytes=one.outbox.waiting_bytes,
        )
        for one in context.services.clients.all()
        if user in {None, one.user}
    ]
    return Json(LiveConnections(context.services.instance, live), 200, NO_STORE)


async def stop(context: RequestContext) -> Response:
    """Stop one turn, on whichever instance it runs. Raises `ApiError`, and `StoreError` if the store is needed."""
    context.principal.require("admin")
    asked = from_body(
        AdminStop, context.path, await context.body(context.services.settings.frame_bytes), context.operation.fields
    )
    user = asked.user or _owner(asked.turn, context.services.registry.live())
    outcome = await context.services.cancellation.cancel(user, asked.turn, Abort("admin", asked.reason))
    if outcome == "not_found":
        raise ApiError("not_found", f"User {user} has no turn {asked.turn}. Check both ids.", path="turn")
    return Json(Stopped({asked.turn: outcome}), 200, NO_STORE)


def _owner(turn: str, live: list[LiveTurn]) -> str:
    """Return the user of the turn in `live` that has the id `turn`.

    Raise `ApiError` if no user has such a turn, or several have.
    """
    users = {one.user for one in live if one.turn == turn}
    if not users:
        raise ApiError(
            "not_found",
            f"Turn {turn} doesn't run on this instance. If it runs on another one, send its `user`.",
            path="turn",
        )
    if len(users) > 1:
        raise ApiError("invalid_request", f"Several users have a turn {turn}. Send the `user`.", path="user")
    return users.pop()


async def close(context: RequestContext) -> Response:
    """Close one connection of this instance. Raise `ApiError` "not_found" if there is no such connection.

    Its turns continue, or are cancelled if `on_disconnect` says so.
    """
    context.principal.require("admin")
    asked = from_body(AdminClose, context.path, await context.body(context.services.settings.frame_bytes), ())
    found = next((one for one in context.services.clients.all() if one.id == asked.connection), None)
    if found is None:
        raise ApiError(
            "not_found",
            f"This instance has no connection {asked.connection}. Check the id and the instance.",
            path="connection",
        )
    found.close_permanently(CLOSED)
    return Json(Nothing(), 200, NO_STORE)


async def begin_drain(context: RequestContext) -> Response:
    """Start to drain this instance. It is no longer ready, but runs until it is stopped. Raises `ApiError`."""
    context.principal.require("admin")
    from_body(AdminDrain, {}, await context.body(context.services.settings.frame_bytes), ())
    answer = Json(Nothing(), 202, NO_STORE)
    answer.background = BackgroundTask(drain, context.services)
    return answer


def _asked(context: RequestContext) -> AdminList:
    context.principal.require("admin")
    return from_query(AdminList, context.path, context.query())
