"""The HTTP API as routes, one per path: dispatch by method, authentication, and error responses."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.http.operation import Operation, RequestContext
from gateway.http.operations import OPERATIONS
from gateway.http.request_body import ClientGone
from gateway.http.responses import NO_STORE, error_answer
from gateway.identity import origin
from gateway.identity.principal import Principal
from gateway.requests.services import Services
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
            answer = Response(status_code=204, headers={**NO_STORE, "allow": ", ".join(self.methods)})
            await answer(scope, receive, send)
            return
        operation = self._operations["GET" if method == "HEAD" else method]
        services: Services = scope["state"]["services"]
        adopt_trace_context(scope["headers"])
        context = RequestContext(operation, services, ANONYMOUS, scope, receive, send)
        try:
            if not operation.public:
                await self._admit(context)
            answered = await operation.serve(context)
            if answered is not None:
                context.services.limits.large_answers.charge(context.principal.user, len(answered.body))
        except ClientGone:
            return
        except Exception as error:
            if context.streaming:
                raise
            refused = as_api_error(error)
            context.services.telemetry.refusals.labels(refused.code).inc()
            answered = error_answer(refused)
        finally:
            context.drop_body()
        if answered is not None:
            await answered(scope, receive, send)

    async def _admit(self, context: RequestContext) -> None:
        """Check the origin, authenticate the caller, and count the request for the rate limit. Raises `ApiError`."""
        origin.check_origin(context.scope["headers"], context.services.settings)
        context.principal = await context.services.authenticator.authenticate(
            context.scope["headers"], context.scope["query_string"]
        )
        context.services.limits.check_request(context.principal.user, context.operation.request)


def api_routes() -> list[Route]:
    """Return one route per path of the API."""
    addresses: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        addresses.setdefault(operation.path, {})[operation.method] = operation
    routes = []
    for path, operations in addresses.items():
        endpoint = Endpoint(operations)
        routes.append(Route(path, endpoint, methods=endpoint.methods))
    return routes
