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

EVENTS = Answer(description="The turn's events, until its ending or until the gateway leaves.", streams=True)


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
    summary="Ask a model: stream the answer, wait for it, or leave it running",
    serve=turn_requests.start,
    answers=(
        Answer(
            description="The turn at its ending, or its events as they come.",
            shape=TurnView,
            streams=True,
            headers=("Location",),
        ),
        Answer(
            status=202,
            description="The turn is accepted.",
            shape=TurnPlaced,
            headers=("Location", "Preference-Applied"),
        ),
    ),
    request=p.TurnStart,
    fields=_fields(p.TurnStart, ""),
    headers=(Field("Prefer", "`respond-async`: answer 202 at once, and attach over the socket or below."),),
)

OPERATIONS: tuple[Operation, ...] = (
    START,
    _ask("GET", "/v1/turns/{turn}", p.TurnGet, "How a turn stands"),
    Operation(
        method="GET",
        path="/v1/turns/{turn}/events",
        summary="Follow a turn, from the start or behind the event that Last-Event-ID names",
        serve=turn_requests.follow,
        answers=(EVENTS, Answer(status=204, description="Nothing comes behind the ending.")),
        request=p.TurnAttach,
        headers=(
            Field(
                "Last-Event-ID",
                "The id of the last event that the client has.",
                rf"^({EVENT_ID.pattern.strip('^$')})?$",
            ),
        ),
    ),
    Operation(
        method="POST",
        path="/v1/turns/{turn}/cancel",
        summary="Stop a turn",
        serve=plain_requests.cancel,
        answers=(Answer(description="What became of it.", shape=RESULTS[p.TurnCancel]),),
        request=p.TurnCancel,
        fields=("reason",),
    ),
    _ask("GET", "/v1/conversations", p.ConversationList, "Conversations, last changed first"),
    _ask(
        "POST",
        "/v1/conversations",
        p.ConversationCreate,
        "Make an empty conversation",
        status=201,
        description="It is made.",
    ),
    _ask("GET", "/v1/conversations/{conversation}", p.ConversationGet, "One conversation, without its messages"),
    _ask("PATCH", "/v1/conversations/{conversation}", p.ConversationUpdate, "Change what is given, leave the rest"),
    _ask("DELETE", "/v1/conversations/{conversation}", p.ConversationDelete, "Stop its turns and forget it"),
    _ask(
        "GET",
        "/v1/conversations/{conversation}/messages",
        p.ConversationMessages,
        "The whole tree by time, the last page first",
    ),
    _ask(
        "DELETE",
        "/v1/conversations/{conversation}/context",
        p.ConversationClear,
        "Start later turns from an empty context",
    ),
    Operation(
        method="GET",
        path="/v1/messages/{message}/parts/{number}",
        summary="The bytes of an image or a file in a message",
        serve=plain_requests.part,
        answers=(Answer(description="The bytes, with the media type that they were sent with.", bytes=True),),
        request=PartGet,
    ),
    _ask("POST", "/v1/messages/{message}/feedback", p.FeedbackPut, "Rate an answer"),
    _ask("GET", "/v1/models", p.ModelsList, "Which models there are, and what each can do"),
    _ask("GET", "/v1/usage", p.UsageGet, "Tokens and cost"),
    Operation(
        method="POST",
        path="/v1/tickets",
        summary="Trade a credential for a ticket that opens one socket",
        serve=credential_requests.issue,
        answers=(Answer(description="The ticket.", shape=Ticket),),
    ),
    Operation(
        method="POST",
        path="/v1/revocations",
        summary="Make a token, an API key, or what was issued to a user worthless",
        serve=credential_requests.revoke,
        answers=(Answer(description="It counts no longer.", shape=Nothing),),
        request=credential_requests.Revocation,
        fields=("jti", "key", "user", "before"),
    ),
    Operation(
        method="GET",
        path="/v1/admin/turns",
        summary="The turns that run on this instance",
        serve=admin_requests.turns,
        answers=(Answer(description="Oldest first.", shape=admin_requests.LiveTurns),),
        request=admin_requests.AdminList,
        fields=("user",),
    ),
    Operation(
        method="GET",
        path="/v1/admin/connections",
        summary="The clients that are on this instance",
        serve=admin_requests.connections,
        answers=(Answer(description="Oldest first.", shape=admin_requests.LiveConnections),),
        request=admin_requests.AdminList,
        fields=("user",),
    ),
    Operation(
        method="POST",
        path="/v1/admin/turns/{turn}/cancel",
        summary="Stop anybody's turn",
        serve=admin_requests.stop,
        answers=(Answer(description="What became of it.", shape=admin_requests.Stopped),),
        request=admin_requests.AdminStop,
        fields=("user", "reason"),
    ),
    Operation(
        method="POST",
        path="/v1/admin/connections/{connection}/close",
        summary="Close a connection of this instance",
        serve=admin_requests.close,
        answers=(Answer(description="It is closed; its turns go on.", shape=Nothing),),
        request=admin_requests.AdminClose,
    ),
    Operation(
        method="POST",
        path="/v1/admin/drain",
        summary="Let this instance take nothing new and send its clients elsewhere",
        serve=admin_requests.begin_drain,
        answers=(Answer(status=202, description="It has begun; `/ready` says 503.", shape=Nothing),),
        request=admin_requests.AdminList,
    ),
    Operation(
        method="GET",
        path="/v1",
        summary="Service information",
        serve=plain_requests.about,
        answers=(Answer(description="What serves here.", shape=About),),
        public=True,
    ),
    Operation(
        method="GET",
        path="/health",
        summary="Whether the process lives",
        serve=plain_requests.health,
        answers=(Answer(description="It does.", shape=Status),),
        public=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="Metrics for Prometheus",
        serve=metrics_requests.metrics,
        answers=(Answer(description="Every metric, as text.", bytes=True),),
        public=True,
    ),
    Operation(
        method="GET",
        path="/ready",
        summary="Whether clients can be served here",
        serve=plain_requests.ready,
        answers=(Answer(description="They can; `store` says whether turns can be started, too.", shape=Readiness),),
        public=True,
    ),
)

assert set(RESULTS) == set(get_args(p.AnyRequest)), "a request without a result"
