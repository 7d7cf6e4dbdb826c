"""Operations for operators with the scope `admin`.

They list turns, connections and feedback, cancel a turn, close a connection, and drain this instance.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.background import BackgroundTask
from starlette.responses import Response

from gateway.drain import drain
from gateway.http.operation import Identifier, RequestContext
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import rfc3339, time_of
from gateway.protocol.results import Nothing, TurnState
from gateway.protocol.views import rating_view
from gateway.requests.conversations import fit_page
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.state import shown_status
from store.records import FeedbackFilter, FeedbackRecord

Reason = Annotated[str, Meta(max_length=500)]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
MS_DIGITS_MAX = 15
"""The maximum number of digits of the time in ms at the beginning of a `before` for the list of feedback."""

CLOSED_REASON = "An operator closed this connection. Ask the operator before you reconnect."


class AdminList(p.Request, frozen=True, tag="admin.list"):
    """List the turns or connections of this instance: of `user`, or of all users."""

    user: Identifier | None = None


class AdminStop(p.Request, frozen=True, tag="admin.stop"):
    """Cancel a turn.

    `user` is required if the turn runs on another instance, or if several users have a turn with this id.
    """

    turn: Identifier
    user: Identifier | None = None
    reason: Reason | None = None


class AdminClose(p.Request, frozen=True, tag="admin.close"):
    """Close a connection of this instance with the close code 4403, so that its client doesn't reconnect automatically."""

    connection: Identifier


class AdminDrain(p.Request, frozen=True, tag="admin.drain"):
    """Accept no new turns and sockets, as after SIGTERM, but keep running until the process is stopped."""


class AdminFeedback(p.Request, frozen=True, tag="admin.feedback"):
    """List the feedback of all users, the newest first.

    `model` and `rating` select the feedback on one model or with one rating, `since` and `until` that of a period.
    """

    model: p.ModelId | None = None
    rating: p.Rating | None = None
    since: Time | None = None
    until: Time | None = None
    limit: p.PageLimit = 50
    before: p.Key | None = None


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
    """A client of this instance: a socket, or an HTTP request with a session.

    `turns` is the number of turns that it is attached to; `waiting_bytes` wait to be sent to it.
    """

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


class Feedback(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rating of a message, by the message's user. `model` is the one that wrote the message."""

    user: str
    message: str
    conversation: str
    turn: str | None = None
    model: str | None = None
    rating: p.Rating
    comment: str | None = None
    rated_at: str


class FeedbackPage(Struct, frozen=True):
    """A page of feedback, the newest first. Pass `next` as `before` to get the next page."""

    feedback: list[Feedback]
    next: str | UnsetType = UNSET


class Stopped(Struct, frozen=True):
    """The result for each turn, by its id."""

    turns: dict[str, str]


async def list_turns(context: RequestContext) -> Response:
    """List the turns that run on this instance, of one user if the query names a user. Raises `ApiError`."""
    user = (await context.parse(AdminList)).user
    live = [
        RunningTurn(
            turn=live_turn.turn,
            user=live_turn.user,
            conversation=live_turn.conversation,
            model=live_turn.model,
            status=shown_status(live_turn.state),
            epoch=live_turn.epoch,
            seq=live_turn.log.end,
            readers=live_turn.attachment_count,
        )
        for live_turn in context.services.registry.live(user)
        if live_turn.is_owned
    ]
    return JsonResponse(LiveTurns(context.services.instance, live), 200, NO_STORE)


async def list_connections(context: RequestContext) -> Response:
    """List the clients of this instance, of one user if the query names a user. Raises `ApiError`."""
    user = (await context.parse(AdminList)).user
    live = [
        LiveConnection(
            connection=client.id,
            user=client.user,
            transport=client.transport,
            opened_at=rfc3339(client.opened_ms),
            turns=len(client.outbox.attachments),
            waiting_bytes=client.outbox.waiting_bytes,
        )
        for client in context.services.clients.all()
        if user in {None, client.user}
    ]
    return JsonResponse(LiveConnections(context.services.instance, live), 200, NO_STORE)


async def list_feedback(context: RequestContext) -> Response:
    """List the feedback of all users that the query selects. Raises `ApiError` and `StoreError`."""
    request = await context.parse(AdminFeedback)
    selected = FeedbackFilter(
        model=request.model,
        rating=None if request.rating is None else str(request.rating),
        since_ms=None if request.since is None else time_of("since", request.since),
        until_ms=None if request.until is None else time_of("until", request.until),
    )
    before = None if request.before is None else _parse_position(request.before)
    records, more = await context.services.store.list_feedback(selected, request.limit, before)
    page = fit_page(map(_feedback_view, records))
    more = more or len(page) < len(records)
    last = records[len(page) - 1] if page and more else None
    return JsonResponse(FeedbackPage(page, UNSET if last is None else f"{last.rated_ms}-{last.message}"), 200, NO_STORE)


def _feedback_view(record: FeedbackRecord) -> Feedback:
    return Feedback(
        user=record.user,
        message=record.message,
        conversation=record.conversation,
        turn=record.turn,
        model=record.model,
        rating=rating_view(record.rating),
        comment=record.comment,
        rated_at=rfc3339(record.rated_ms),
    )


def _parse_position(before: str) -> tuple[int, str]:
    """Return the time in ms and the message that a page's `next` names. Raises `ApiError` "invalid_request"."""
    rated_ms, _, message = before.partition("-")
    if not (message and rated_ms.isascii() and rated_ms.isdecimal() and len(rated_ms) <= MS_DIGITS_MAX):
        raise ApiError(
            "invalid_request", "`before` isn't a position in this list. Send the `next` of a page.", path="before"
        )
    return int(rated_ms), message


async def cancel_turn(context: RequestContext) -> Response:
    """Stop one turn, on whichever instance it runs. Raises `ApiError`, and `StoreError` if the store fails."""
    request = await context.parse(AdminStop)
    user = request.user or _find_user(request.turn, context.services.registry.live())
    outcome = await context.services.cancellation.cancel(user, request.turn, Abort("admin", request.reason))
    if outcome == "not_found":
        raise ApiError("not_found", f"User {user} has no turn {request.turn}. Check both ids.", path="turn")
    return JsonResponse(Stopped({request.turn: outcome}), 200, NO_STORE)


def _find_user(turn: str, live: list[LiveTurn]) -> str:
    """Return the user of the turn in `live` that has the id `turn`.

    Raise `ApiError` if no user has such a turn, or several have.
    """
    users = {live_turn.user for live_turn in live if live_turn.turn == turn}
    if not users:
        raise ApiError(
            "not_found",
            f"Turn {turn} doesn't run on this instance. If it runs on another one, send its `user`.",
            path="turn",
        )
    if len(users) > 1:
        raise ApiError("invalid_request", f"Several users have a turn {turn}. Send the `user`.", path="user")
    return users.pop()


async def close_connection(context: RequestContext) -> Response:
    """Close one connection of this instance. Raise `ApiError` "not_found" if there is no such connection.

    Its turns continue, or are cancelled if `on_disconnect` says so.
    """
    request = await context.parse(AdminClose)
    client = next((client for client in context.services.clients.all() if client.id == request.connection), None)
    if client is None:
        raise ApiError(
            "not_found",
            f"This instance has no connection {request.connection}. Check the id and the instance.",
            path="connection",
        )
    client.close_permanently(CLOSED_REASON)
    return JsonResponse(Nothing(), 200, NO_STORE)


async def start_drain(context: RequestContext) -> Response:
    """Start to drain this instance. It is no longer ready, but runs until it is stopped. Raises `ApiError`."""
    await context.parse(AdminDrain)
    return JsonResponse(Nothing(), 202, NO_STORE, background=BackgroundTask(drain, context.services))
