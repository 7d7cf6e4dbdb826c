"""The HTTP API as routes, one per path: dispatch by method, authentication, and error responses."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from gateway.http.operation import Operation, RequestContext
from gateway.http.operations import OPERATIONS
from gateway.http.pacing import identify
from gateway.http.responses import NO_STORE, error_response
from gateway.identity import origin
from gateway.identity.principal import Principal
from gateway.identity.user_in_header import act_for_user_in_header
from gateway.requests.services import Services
from gateway.telemetry.dialect import adopt_dialect, current_dialect
from gateway.telemetry.tracing import adopt_trace_context
from gateway.turns.error_mapping import as_api_error

ANONYMOUS = Principal(user="")


class Endpoint:
    """An ASGI application that serves one path of the API. `operations` has the operation of each method."""

    def __init__(self, operations: dict[str, Operation]) -> None:
        self._operations = operations
        self.methods = sorted({*operations, "OPTIONS", *(["HEAD"] if "GET" in operations else [])})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method = scope["method"]
        if method == "OPTIONS":
            options = Response(status_code=204, headers={**NO_STORE, "allow": ", ".join(self.methods)})
            await options(scope, receive, send)
            return
        operation = self._operations["GET" if method == "HEAD" else method].for_headers(scope["headers"])
        services: Services = scope["state"]["services"]
        adopt_trace_context(scope["headers"])
        if operation.dialect is not None:
            adopt_dialect(operation.dialect.name)
        context = RequestContext(operation, services, ANONYMOUS, scope, receive, send)
        try:
            if not operation.is_public:
                await self._admit(context)
            response = await operation.handler(context)
            if response is not None:
                context.services.limits.large_answers.charge(context.principal.user, len(response.body))
        except ClientDisconnect:
            return
        except Exception as error:
            if context.streaming:
                raise
            refused = as_api_error(error)
            context.services.telemetry.refusals.labels(refused.code, current_dialect()).inc()
            response = error_response(refused, context.answer_headers, context.dialect)
        finally:
            context.release_body()
        if response is not None:
            await response(scope, receive, send)

    async def _admit(self, context: RequestContext) -> None:
        """Check the origin, authenticate the caller, count the request for the rate limit, and check the scope.

        A caller that has taken more than its share of the event loop waits here. Raises `ApiError` and
        `ClientDisconnect`.
        """
        origin.check_origin(context.scope["headers"], context.services.settings)
        context.principal = await context.services.authenticator.authenticate(
            context.scope["headers"], context.scope["query_string"]
        )
        if context.operation.dialect is not None:
            context.principal = act_for_user_in_header(context.principal, context.scope["headers"])
        await identify(context.scope, context.principal)
        context.services.limits.check_request(context.principal.user, context.operation.request)
        context.principal.require(context.operation.scope)


class UserRoute(Route):
    """A route that ends with a user's name.

    A user's name may have a slash in it. A path that ends with `/export` isn't for this route, so that
    `DELETE …/ann/export` doesn't erase a user with the name `ann/export`.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the request is for this route; see `Route`."""
        if scope["type"] == "http" and scope["raw_path"].endswith(b"/export"):
            return Match.NONE, {}
        return super().matches(scope)


class ModelRoute(Route):
    """A route that ends with a model's id. An id doesn't end with a slash, and isn't empty."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the request is for this route; see `Route`."""
        if scope["type"] == "http" and scope["path"].endswith("/"):
            return Match.NONE, {}
        return super().matches(scope)


class ChatRoute(Route):
    """A route with a chat's id, which may have a slash in it. The sessions of another API are below its address."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the request is for this route; see `Route`."""
        if scope["type"] == "http" and "/api/chat/sessions/" in scope["path"]:
            return Match.NONE, {}
        return super().matches(scope)


def api_routes() -> list[Route]:
    """Return one route per path of the API."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes = []
    for path, operations in by_path.items():
        endpoint = Endpoint(operations)
        made = UserRoute if path.endswith("{user}") else ModelRoute if path.endswith("{model}") else Route
        made = ChatRoute if "{chat}" in path else made
        # The name of a user, a model or a chat may have a slash in it, which arrives decoded.
        template = path.replace("{user}", "{user:path}").replace("{model}", "{model:path}")
        template = template.replace("{chat}", "{chat:path}")
        routes.append(made(template, endpoint, methods=endpoint.methods))
    return routes
