"""The table of all operations of the HTTP API, in the order in which the documents list them."""

from __future__ import annotations

from typing import get_args

from msgspec import Struct

from gateway.http import admin as admin_requests
from gateway.http import credentials as credential_requests
from gateway.http import metrics as metrics_requests
from gateway.http import resources as plain_requests
from gateway.http import turns as turn_requests
from gateway.http.negotiation import EVENT_ID
from gateway.http.operation import Answer, Field, Operation, PartGet
from gateway.protocol import requests as p
from gateway.protocol.results import RESULTS, About, Nothing, Readiness, Status, Ticket, TurnPlaced, TurnView

EVENTS = Answer(
    description="The turn's events, until its ending, `turn.detached`, or the shutdown of this instance.", streams=True
)


def _fields(request: type[Struct], path: str) -> tuple[str, ...]:
    """Return the fields of `request` that are neither in `path` nor specific to a frame (`id`, `as`)."""
    return tuple(
        name for name in request.__struct_encode_fields__ if name not in {"id", "as"} and f"{{{name}}}" not in path
    )


def _ask(
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
        serve=plain_requests.ask,
        answers=(Answer(status=status, description=description, shape=RESULTS[request], headers=headers),),
        request=request,
        fields=_fields(request, path),
    )


START = Operation(
    method="POST",
    path="/v1/turns",
    summary="Start a turn: stream its events, wait for its ending, or return at once",
    serve=turn_requests.start,
    answers=(
        Answer(
            description="The turn after its ending, or a stream of its events.",
            shape=TurnView,
            streams=True,
            headers=("Location",),
        ),
        Answer(
            status=202,
            description="The turn was accepted.",
            shape=TurnPlaced,
            headers=("Location", "Preference-Applied"),
        ),
    ),
    request=p.TurnStart,
    fields=_fields(p.TurnStart, ""),
    headers=(
        Field(
            "Prefer",
            "`respond-async`: respond with 202 once the turn is accepted. Its events are at `/v1/turns/{turn}/events`.",
        ),
    ),
)

OPERATIONS: tuple[Operation, ...] = (
    START,
    _ask("GET", "/v1/turns/{turn}", p.TurnGet, "Get a turn"),
    Operation(
        method="GET",
        path="/v1/turns/{turn}/events",
        summary="Stream a turn's events, from the start or after Last-Event-ID",
        serve=turn_requests.follow,
        answers=(EVENTS, Answer(status=204, description="There are no events after the ending.")),
        request=p.TurnAttach,
        headers=(
            Field(
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
        serve=plain_requests.cancel,
        answers=(Answer(description="The result for the turn.", shape=RESULTS[p.TurnCancel]),),
        request=p.TurnCancel,
        fields=("reason",),
    ),
    _ask("GET", "/v1/conversations", p.ConversationList, "List the conversations"),
    _ask(
        "POST",
        "/v1/conversations",
        p.ConversationCreate,
        "Create a conversation",
        status=201,
        description="The conversation was created.",
    ),
    _ask("GET", "/v1/conversations/{conversation}", p.ConversationGet, "Get a conversation"),
    _ask("PATCH", "/v1/conversations/{conversation}", p.ConversationUpdate, "Update a conversation"),
    _ask("DELETE", "/v1/conversations/{conversation}", p.ConversationDelete, "Delete a conversation"),
    _ask(
        "GET",
        "/v1/conversations/{conversation}/messages",
        p.ConversationMessages,
        "List the messages of a conversation",
    ),
    _ask(
        "DELETE",
        "/v1/conversations/{conversation}/context",
        p.ConversationClear,
        "Clear the context of a conversation",
    ),
    Operation(
        method="GET",
        path="/v1/messages/{message}/parts/{number}",
        summary="Download an image or a file of a message",
        serve=plain_requests.part,
        answers=(Answer(description="The data, with the media type that its sender gave.", bytes=True),),
        request=PartGet,
    ),
    _ask("POST", "/v1/messages/{message}/feedback", p.FeedbackPut, "Rate an answer"),
    _ask("GET", "/v1/models", p.ModelsList, "List the models"),
    _ask("GET", "/v1/usage", p.UsageGet, "Get the usage and cost"),
    Operation(
        method="POST",
        path="/v1/tickets",
        summary="Issue a ticket that opens one socket",
        serve=credential_requests.issue,
        answers=(Answer(description="The ticket.", shape=Ticket),),
    ),
    Operation(
        method="POST",
        path="/v1/revocations",
        summary="Revoke a token, an API key, or the credentials of a user",
        serve=credential_requests.revoke,
        answers=(Answer(description="The credentials are revoked.", shape=Nothing),),
        request=credential_requests.Revocation,
        fields=("jti", "key", "user", "before"),
    ),
    Operation(
        method="GET",
        path="/v1/admin/turns",
        summary="List the turns of this instance",
        serve=admin_requests.turns,
        answers=(Answer(description="The turns, oldest first.", shape=admin_requests.LiveTurns),),
        request=admin_requests.AdminList,
        fields=("user",),
    ),
    Operation(
        method="GET",
        path="/v1/admin/connections",
        summary="List the connections of this instance",
        serve=admin_requests.connections,
        answers=(Answer(description="The connections, oldest first.", shape=admin_requests.LiveConnections),),
        request=admin_requests.AdminList,
        fields=("user",),
    ),
    Operation(
        method="POST",
        path="/v1/admin/turns/{turn}/cancel",
        summary="Cancel a turn of any user",
        serve=admin_requests.stop,
        answers=(Answer(description="The result for the turn.", shape=admin_requests.Stopped),),
        request=admin_requests.AdminStop,
        fields=("user", "reason"),
    ),
    Operation(
        method="POST",
        path="/v1/admin/connections/{connection}/close",
        summary="Close a connection of this instance",
        serve=admin_requests.close,
        answers=(
            Answer(
                description="The connection is closed. Its turns continue unless their `on_disconnect` is `cancel`.",
                shape=Nothing,
            ),
        ),
        request=admin_requests.AdminClose,
    ),
    Operation(
        method="POST",
        path="/v1/admin/drain",
        summary="Drain this instance",
        serve=admin_requests.begin_drain,
        answers=(Answer(status=202, description="The drain has started. `/ready` now returns 503.", shape=Nothing),),
        request=admin_requests.AdminDrain,
    ),
    Operation(
        method="GET",
        path="/v1",
        summary="Get the service information",
        serve=plain_requests.about,
        answers=(Answer(description="The name, versions, instance and authentication of the service.", shape=About),),
        public=True,
    ),
    Operation(
        method="GET",
        path="/health",
        summary="Check that the process is alive",
        serve=plain_requests.health,
        answers=(Answer(description="The process is alive.", shape=Status),),
        public=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="Get the metrics for Prometheus",
        serve=metrics_requests.metrics,
        answers=(Answer(description="All metrics, as text.", bytes=True),),
        public=True,
    ),
    Operation(
        method="GET",
        path="/ready",
        summary="Check that this instance can serve clients",
        serve=plain_requests.ready,
        answers=(
            Answer(
                description="This instance is ready. If `store` is `degraded`, no turn can be started.", shape=Readiness
            ),
        ),
        public=True,
    ),
)

assert set(RESULTS) == set(get_args(p.AnyRequest)), "a request without a result"
