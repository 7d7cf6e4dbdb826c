"""What an operator may do on this instance, with the scope `admin`: see turns and connections, stop, close, drain."""

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

CLOSED = "closed by the operator"


class AdminList(p.Request, frozen=True, tag="admin.list"):
    """What is live on this instance, of `user` or of all."""

    user: Name | None = None


class AdminStop(p.Request, frozen=True, tag="admin.stop"):
    """Stop a turn. `user` is needed where it runs on another instance, or where several users have a turn of this id."""

    turn: Name
    user: Name | None = None
    reason: Reason | None = None


class AdminClose(p.Request, frozen=True, tag="admin.close"):
    """Close a connection of this instance, for good (4403)."""

    connection: Name


class RunningTurn(Struct, frozen=True):
    """A turn that runs here. `readers`: how many connections of this instance follow it."""

    turn: str
    user: str
    conversation: str | None
    model: str
    status: TurnState
    epoch: int
    seq: int
    readers: int


class LiveTurns(Struct, frozen=True):
    """The turns of this instance, oldest first."""

    instance: str
    turns: list[RunningTurn]


class LiveConnection(Struct, frozen=True):
    """A client that is here. `turns`: how many it follows; `waiting_bytes`: what it has not read yet."""

    connection: str
    user: str
    transport: str
    opened_at: str
    turns: int
    waiting_bytes: int


class LiveConnections(Struct, frozen=True):
    """The clients of this instance, oldest first."""

    instance: str
    connections: list[LiveConnection]


class Stopped(Struct, frozen=True):
    """What became of each turn."""

    turns: dict[str, str]


async def turns(context: RequestContext) -> Response:
    """Every turn that runs here."""
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
    """Every client that is here."""
    user = _asked(context).user
    live = [
        LiveConnection(
            connection=one.id,
            user=one.user,
            transport=one.transport,
            opened_at=rfc3339(one.opened_ms),
            turns=len(one.outbox.attachments),
            waiting_bytes=one.outbox.waiting,
        )
        for one in context.services.clients.all()
        if user in {None, one.user}
    ]
    return Json(LiveConnections(context.services.instance, live), 200, NO_STORE)


async def stop(context: RequestContext) -> Response:
    """Stop one turn, wherever it runs."""
    context.principal.require("admin")
    asked = from_body(
        AdminStop, context.path, await context.body(context.services.settings.frame_bytes), context.operation.fields
    )
    user = asked.user or _owner(asked.turn, context.services.registry.live())
    outcome = await context.services.cancellation.cancel(user, asked.turn, Abort("admin", asked.reason))
    if outcome == "not_found":
        raise ApiError("not_found", f"{user} has no turn {asked.turn}. Check the ids.", path="turn")
    return Json(Stopped({asked.turn: outcome}), 200, NO_STORE)


def _owner(turn: str, live: list[LiveTurn]) -> str:
    """The one user who has such a turn here. Raises `ApiError`."""
    users = {one.user for one in live if one.turn == turn}
    if not users:
        raise ApiError("not_found", f"No turn {turn} runs here. If it runs elsewhere, say its user.", path="turn")
    if len(users) > 1:
        raise ApiError("invalid_request", f"Several users have a turn {turn}. Say which user.", path="user")
    return users.pop()


async def close(context: RequestContext) -> Response:
    """Close one connection; its turns go on, or end with it as they were told to."""
    context.principal.require("admin")
    asked = from_body(AdminClose, context.path, await context.body(context.services.settings.frame_bytes), ())
    found = next((one for one in context.services.clients.all() if one.id == asked.connection), None)
    if found is None:
        raise ApiError("not_found", f"No connection {asked.connection} is here. Check the id.", path="connection")
    found.dismiss(CLOSED)
    return Json(Nothing(), 200, NO_STORE)


async def leave(context: RequestContext) -> Response:
    """Begin to drain this instance; it stays, and is not ready any more, until it is stopped."""
    context.principal.require("admin")
    from_body(AdminList, {}, await context.body(context.services.settings.frame_bytes), ())
    answer = Json(Nothing(), 202, NO_STORE)
    answer.background = BackgroundTask(drain, context.services)
    return answer


def _asked(context: RequestContext) -> AdminList:
    context.principal.require("admin")
    return from_query(AdminList, context.path, context.query())
