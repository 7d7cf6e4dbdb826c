"""The table of all operations of the HTTP API, in the order in which the documents and `GET /v1` list them."""

from __future__ import annotations

from typing import get_args

from starlette.responses import Response

from gateway import __version__
from gateway.dialects.models import ModelCatalog, ModelObject
from gateway.http import admin, credentials, models, part_download, resources, service_status, turns, users
from gateway.http.dialects import anthropic_messages
from gateway.http.dialects.addresses import DIALECT_OPERATIONS
from gateway.http.negotiation import EVENT_ID
from gateway.http.operation import Handler, HeaderSpec, Operation, PartGet, RequestContext, ResponseSpec
from gateway.http.responses import JsonResponse
from gateway.identity.origin import check_stated_origin
from gateway.identity.principal import Scope
from gateway.protocol import requests as p
from gateway.protocol.codec import BY_SUBPROTOCOL
from gateway.protocol.results import RESULTS, About, Address, Nothing, Readiness, Status, Ticket, TurnPlaced, TurnView
from gateway.requests.export import ExportLine


def _operation(
    method: str,
    path: str,
    summary: str,
    request: type[p.Request] | None,
    *responses: ResponseSpec,
    handler: Handler = resources.handle_request,
    scope: Scope | None = None,
    fields: tuple[str, ...] | None = None,
    headers: tuple[HeaderSpec, ...] = (),
    is_public: bool = False,
    may_require_admin: bool = False,
    variant: tuple[str, Operation] | None = None,
) -> Operation:
    """Return an operation.

    Its default response is the result of the request. Its default fields are those of the request that are neither in
    the path nor specific to a frame (`id`, `as`).
    """
    if request is not None:
        responses = responses or (ResponseSpec("The result.", RESULTS[request]),)
        known = {"id", "as", *(name for name in request.__struct_encode_fields__ if f"{{{name}}}" in path)}
        fields = tuple(n for n in request.__struct_encode_fields__ if n not in known) if fields is None else fields
    return Operation(
        method,
        path,
        summary,
        handler,
        responses,
        request,
        scope,
        fields or (),
        headers,
        is_public,
        may_require_admin,
        variant=variant,
    )


async def about(context: RequestContext) -> Response:
    """Return what this service is, and all of its addresses.

    At `/v1`, but not at `/`, a page whose origin isn't allowed is refused, as its socket would be. Raises `ApiError`.
    """
    settings = context.services.settings
    if context.scope["path"].endswith("/v1"):
        check_stated_origin(context.scope["headers"], context.scope["query_string"], settings)
    prefix = settings.path_prefix
    return JsonResponse(
        About(
            name="turnwire",
            version=__version__,
            protocol=p.PROTOCOL,
            subprotocols=list(BY_SUBPROTOCOL),
            instance=context.services.instance,
            auth=settings.auth,
            socket=f"{prefix}/ws",
            documents=[f"{prefix}{path}" for path in DOCUMENTS],
            addresses=[
                Address(operation.method, f"{prefix}{operation.path}", operation.summary) for operation in OPERATIONS
            ],
        )
    )


DOCUMENTS = ("/docs", "/openapi.json", "/asyncapi.json")
OPERATIONS: tuple[Operation, ...] = (
    _operation(
        "POST",
        "/v1/turns",
        "Start a turn: stream its events, wait for its ending, or return at once",
        p.TurnStart,
        ResponseSpec(
            "The turn after its ending, or a stream of its events.", TurnView, is_stream=True, headers=("Location",)
        ),
        ResponseSpec("The turn was accepted.", TurnPlaced, status=202, headers=("Location", "Preference-Applied")),
        handler=turns.start_turn,
        headers=(
            HeaderSpec(
                "Prefer",
                "`respond-async`: respond with 202 once the turn is accepted. Its events are at `/v1/turns/{turn}/events`.",
            ),
        ),
    ),
    _operation(
        "POST",
        "/v1/turns/estimate",
        "Estimate the tokens and the cost of a turn, without starting it",
        p.TurnEstimate,
        ResponseSpec("The estimate.", RESULTS[p.TurnEstimate]),
        handler=turns.estimate_turn,
    ),
    _operation("GET", "/v1/turns/{turn}", "Get a turn", p.TurnGet),
    _operation(
        "GET",
        "/v1/turns/{turn}/events",
        "Stream a turn's events, from the start or after Last-Event-ID",
        turns.TurnEvents,
        ResponseSpec(
            "The turn's events, until its ending, `turn.detached`, or the shutdown of this instance.", is_stream=True
        ),
        ResponseSpec("The client has received all events up to the ending already.", status=204),
        handler=turns.stream_turn,
        fields=("user_id",),
        headers=(
            HeaderSpec(
                "Last-Event-ID",
                "The id of the last event that the client has received.",
                rf"^({EVENT_ID.pattern.strip('^$')})?$",
            ),
        ),
    ),
    _operation(
        "POST",
        "/v1/turns/{turn}/cancel",
        "Cancel a turn",
        p.TurnCancel,
        ResponseSpec("The result for the turn.", RESULTS[p.TurnCancel]),
        handler=resources.cancel_turn,
        fields=("reason",),
    ),
    _operation("GET", "/v1/conversations", "List the conversations", p.ConversationList),
    _operation(
        "POST",
        "/v1/conversations",
        "Create a conversation",
        p.ConversationCreate,
        ResponseSpec(
            "The conversation was created, or exists with this id.",
            RESULTS[p.ConversationCreate],
            status=201,
            headers=("Location",),
        ),
    ),
    _operation("GET", "/v1/conversations/{conversation}", "Get a conversation", p.ConversationGet),
    _operation("PATCH", "/v1/conversations/{conversation}", "Update a conversation", p.ConversationUpdate),
    _operation("DELETE", "/v1/conversations/{conversation}", "Delete a conversation", p.ConversationDelete),
    _operation(
        "GET",
        "/v1/conversations/{conversation}/messages",
        "List the messages of a conversation",
        p.ConversationMessages,
    ),
    _operation(
        "DELETE",
        "/v1/conversations/{conversation}/context",
        "Clear the context of a conversation",
        p.ConversationClear,
    ),
    _operation(
        "GET",
        "/v1/messages/{message}/parts/{number}",
        "Download an image or a file of a message",
        PartGet,
        ResponseSpec("The data, with the media type that its sender gave.", is_binary=True),
        handler=part_download.get_part,
        scope="read",
    ),
    _operation("POST", "/v1/messages/{message}/feedback", "Rate an answer", p.FeedbackPut),
    _operation(
        "GET",
        "/v1/models",
        "List the models. With the header anthropic-version, in the shape of Anthropic's API",
        p.ModelsList,
        ResponseSpec("The models.", ModelCatalog),
        handler=models.list_models,
        variant=(anthropic_messages.VERSION_HEADER, anthropic_messages.LIST_MODELS),
    ),
    _operation(
        "GET",
        "/v1/models/{model}",
        "Get a model. With the header anthropic-version, in the shape of Anthropic's API",
        models.ModelGet,
        ResponseSpec("The model.", ModelObject),
        handler=models.get_model,
        scope="read",
        variant=(anthropic_messages.VERSION_HEADER, anthropic_messages.GET_MODEL),
    ),
    _operation("GET", "/v1/usage", "Get the usage and cost", p.UsageGet),
    _operation(
        "POST",
        "/v1/tickets",
        "Issue a ticket that opens one socket",
        None,
        ResponseSpec("The ticket.", Ticket),
        handler=credentials.issue_ticket,
    ),
    _operation(
        "POST",
        "/v1/revocations",
        "Revoke a token, an API key, or the credentials of a user",
        credentials.Revocation,
        ResponseSpec("The credentials are revoked.", Nothing),
        handler=credentials.revoke,
        scope="admin",
    ),
    _operation(
        "GET",
        "/v1/users/{user}/export",
        "Export everything of a user",
        users.UserExport,
        ResponseSpec(
            "The user, the conversations with their messages, and the usage by day, one JSON object per line.",
            line_types=get_args(ExportLine),
        ),
        handler=users.export,
    ),
    _operation(
        "DELETE",
        "/v1/users/{user}",
        "Delete everything of a user",
        users.UserErase,
        ResponseSpec("Everything of the user is deleted.", Nothing),
        handler=users.erase_user,
    ),
    _operation(
        "GET",
        "/v1/admin/turns",
        "List the turns of this instance",
        admin.AdminList,
        ResponseSpec("The turns, oldest first.", admin.LiveTurns),
        handler=admin.list_turns,
        scope="admin",
    ),
    _operation(
        "GET",
        "/v1/admin/connections",
        "List the connections of this instance",
        admin.AdminList,
        ResponseSpec("The connections, oldest first.", admin.LiveConnections),
        handler=admin.list_connections,
        scope="admin",
    ),
    _operation(
        "GET",
        "/v1/admin/feedback",
        "List the feedback of all users",
        admin.AdminFeedback,
        ResponseSpec("The feedback, the newest first.", admin.FeedbackPage),
        handler=admin.list_feedback,
        scope="admin",
    ),
    _operation(
        "POST",
        "/v1/admin/turns/{turn}/cancel",
        "Cancel a turn of any user",
        admin.AdminStop,
        ResponseSpec("The result for the turn.", admin.Stopped),
        handler=admin.cancel_turn,
        scope="admin",
    ),
    _operation(
        "POST",
        "/v1/admin/connections/{connection}/close",
        "Close a connection of this instance",
        admin.AdminClose,
        ResponseSpec("The connection is closed. Its turns continue unless their `on_disconnect` is `cancel`.", Nothing),
        handler=admin.close_connection,
        scope="admin",
    ),
    _operation(
        "POST",
        "/v1/admin/drain",
        "Drain this instance",
        admin.AdminDrain,
        ResponseSpec("The drain has started. `/ready` now returns 503.", Nothing, status=202),
        handler=admin.start_drain,
        scope="admin",
    ),
    _operation(
        "GET",
        "/v1",
        "Get the service information",
        None,
        ResponseSpec("The name, versions, instance, authentication and addresses of the service.", About),
        handler=about,
        is_public=True,
    ),
    _operation(
        "GET",
        "/health",
        "Check that the process is alive",
        None,
        ResponseSpec("The process is alive.", Status),
        handler=service_status.health,
        is_public=True,
    ),
    _operation(
        "GET",
        "/metrics",
        "Get the metrics for Prometheus",
        None,
        ResponseSpec("All metrics, as text.", is_binary=True),
        handler=service_status.metrics,
        is_public=True,
        may_require_admin=True,
    ),
    _operation(
        "GET",
        "/ready",
        "Check that this instance can serve clients",
        None,
        ResponseSpec(
            "This instance is ready. If `store` is `degraded`, some or all turns can't be started.", Readiness
        ),
        handler=service_status.ready,
        is_public=True,
    ),
    *DIALECT_OPERATIONS,
)

assert set(RESULTS) == set(get_args(p.AnyRequest)), "a request without a result"
