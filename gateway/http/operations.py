"""The table of all operations of the HTTP API, in the order in which the documents list them."""

from __future__ import annotations

from typing import get_args

from msgspec import Struct

from gateway.http import admin, credentials, metrics, resources, turns
from gateway.http.negotiation import EVENT_ID
from gateway.http.operation import HeaderSpec, Operation, PartGet, ResponseSpec
from gateway.protocol import requests as p
from gateway.protocol.results import RESULTS, About, Nothing, Readiness, Status, Ticket, TurnPlaced, TurnView

EVENTS = ResponseSpec(
    description="The turn's events, until its ending, `turn.detached`, or the shutdown of this instance.",
    is_stream=True,
)


def _fields(request: type[Struct], path: str) -> tuple[str, ...]:
    """Return the fields of `request` that are neither in `path` nor specific to a frame (`id`, `as`)."""
    return tuple(
        name for name in request.__struct_encode_fields__ if name not in {"id", "as"} and f"{{{name}}}" not in path
    )


def _operation(
    method: str,
    path: str,
    request: type[p.Request],
    summary: str,
    *,
    status: int = 200,
    description: str = "The result.",
) -> Operation:
    headers = ("Location",) if status == 201 else ()
    return Operation(
        method=method,
        path=path,
        summary=summary,
        handler=resources.handle_request,
        responses=(
            ResponseSpec(status=status, description=description, result_type=RESULTS[request], headers=headers),
        ),
        request=request,
        fields=_fields(request, path),
    )


START = Operation(
    method="POST",
    path="/v1/turns",
    summary="Start a turn: stream its events, wait for its ending, or return at once",
    handler=turns.start_turn,
    responses=(
        ResponseSpec(
            description="The turn after its ending, or a stream of its events.",
            result_type=TurnView,
            is_stream=True,
            headers=("Location",),
        ),
        ResponseSpec(
            status=202,
            description="The turn was accepted.",
            result_type=TurnPlaced,
            headers=("Location", "Preference-Applied"),
        ),
    ),
    request=p.TurnStart,
    fields=_fields(p.TurnStart, ""),
    headers=(
        HeaderSpec(
            "Prefer",
            "`respond-async`: respond with 202 once the turn is accepted. Its events are at `/v1/turns/{turn}/events`.",
        ),
    ),
)

OPERATIONS: tuple[Operation, ...] = (
    START,
    _operation("GET", "/v1/turns/{turn}", p.TurnGet, "Get a turn"),
    Operation(
        method="GET",
        path="/v1/turns/{turn}/events",
        summary="Stream a turn's events, from the start or after Last-Event-ID",
        handler=turns.stream_turn,
        responses=(EVENTS, ResponseSpec(status=204, description="There are no events after the ending.")),
        request=p.TurnAttach,
        headers=(
            HeaderSpec(
                "Last-Event-ID",
                "The id of the last event that the client has received.",
                rf"^({EVENT_ID.pattern.strip('^$')})?$",
            ),
        ),
    ),
    Operation(
        method="POST",
        path="/v1/turns/{turn}/cancel",
        summary="Cancel a turn",
        handler=resources.cancel_turn,
        responses=(ResponseSpec(description="The result for the turn.", result_type=RESULTS[p.TurnCancel]),),
        request=p.TurnCancel,
        fields=("reason",),
    ),
    _operation("GET", "/v1/conversations", p.ConversationList, "List the conversations"),
    _operation(
        "POST",
        "/v1/conversations",
        p.ConversationCreate,
        "Create a conversation",
        status=201,
        description="The conversation was created.",
    ),
    _operation("GET", "/v1/conversations/{conversation}", p.ConversationGet, "Get a conversation"),
    _operation("PATCH", "/v1/conversations/{conversation}", p.ConversationUpdate, "Update a conversation"),
    _operation("DELETE", "/v1/conversations/{conversation}", p.ConversationDelete, "Delete a conversation"),
    _operation(
        "GET",
        "/v1/conversations/{conversation}/messages",
        p.ConversationMessages,
        "List the messages of a conversation",
    ),
    _operation(
        "DELETE",
        "/v1/conversations/{conversation}/context",
        p.ConversationClear,
        "Clear the context of a conversation",
    ),
    Operation(
        method="GET",
        path="/v1/messages/{message}/parts/{number}",
        summary="Download an image or a file of a message",
        handler=resources.get_part,
        responses=(ResponseSpec(description="The data, with the media type that its sender gave.", is_binary=True),),
        request=PartGet,
        scope="read",
    ),
    _operation("POST", "/v1/messages/{message}/feedback", p.FeedbackPut, "Rate an answer"),
    _operation("GET", "/v1/models", p.ModelsList, "List the models"),
    _operation("GET", "/v1/usage", p.UsageGet, "Get the usage and cost"),
    Operation(
        method="POST",
        path="/v1/tickets",
        summary="Issue a ticket that opens one socket",
        handler=credentials.issue_ticket,
        responses=(ResponseSpec(description="The ticket.", result_type=Ticket),),
    ),
    Operation(
        method="POST",
        path="/v1/revocations",
        summary="Revoke a token, an API key, or the credentials of a user",
        handler=credentials.revoke,
        responses=(ResponseSpec(description="The credentials are revoked.", result_type=Nothing),),
        request=credentials.Revocation,
        scope="admin",
        fields=("jti", "key", "user", "before"),
    ),
    Operation(
        method="GET",
        path="/v1/admin/turns",
        summary="List the turns of this instance",
        handler=admin.list_turns,
        responses=(ResponseSpec(description="The turns, oldest first.", result_type=admin.LiveTurns),),
        request=admin.AdminList,
        scope="admin",
        fields=("user",),
    ),
    Operation(
        method="GET",
        path="/v1/admin/connections",
        summary="List the connections of this instance",
        handler=admin.list_connections,
        responses=(ResponseSpec(description="The connections, oldest first.", result_type=admin.LiveConnections),),
        request=admin.AdminList,
        scope="admin",
        fields=("user",),
    ),
    Operation(
        method="POST",
        path="/v1/admin/turns/{turn}/cancel",
        summary="Cancel a turn of any user",
        handler=admin.cancel_turn,
        responses=(ResponseSpec(description="The result for the turn.", result_type=admin.Stopped),),
        request=admin.AdminStop,
        scope="admin",
        fields=("user", "reason"),
    ),
    Operation(
        method="POST",
        path="/v1/admin/connections/{connection}/close",
        summary="Close a connection of this instance",
        handler=admin.close_connection,
        responses=(
            ResponseSpec(
                description="The connection is closed. Its turns continue unless their `on_disconnect` is `cancel`.",
                result_type=Nothing,
            ),
        ),
        request=admin.AdminClose,
        scope="admin",
    ),
    Operation(
        method="POST",
        path="/v1/admin/drain",
        summary="Drain this instance",
        handler=admin.start_drain,
        responses=(
            ResponseSpec(
                status=202, description="The drain has started. `/ready` now returns 503.", result_type=Nothing
            ),
        ),
        request=admin.AdminDrain,
        scope="admin",
    ),
    Operation(
        method="GET",
        path="/v1",
        summary="Get the service information",
        handler=resources.about,
        responses=(
            ResponseSpec(
                description="The name, versions, instance and authentication of the service.", result_type=About
            ),
        ),
        is_public=True,
    ),
    Operation(
        method="GET",
        path="/health",
        summary="Check that the process is alive",
        handler=resources.health,
        responses=(ResponseSpec(description="The process is alive.", result_type=Status),),
        is_public=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="Get the metrics for Prometheus",
        handler=metrics.metrics,
        responses=(ResponseSpec(description="All metrics, as text.", is_binary=True),),
        is_public=True,
    ),
    Operation(
        method="GET",
        path="/ready",
        summary="Check that this instance can serve clients",
        handler=resources.ready,
        responses=(
            ResponseSpec(
                description="This instance is ready. If `store` is `degraded`, no turn can be started.",
                result_type=Readiness,
            ),
        ),
        is_public=True,
    ),
)

assert set(RESULTS) == set(get_args(p.AnyRequest)), "a request without a result"
