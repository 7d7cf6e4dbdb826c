"""The id of each request: that of its `X-Request-ID` or a new one, sent with the answer, and in the log lines about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter

import structlog
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.http.dialects.anthropic_messages import VERSION_HEADER
from gateway.protocol.ids import REQUEST_ID_HEADER, request_id_in

log = structlog.stdlib.get_logger("turnwire.http")

ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
"""The messages that begin an answer, and have its headers."""
ANTHROPIC_HEADER = b"request-id"
"""The header in which the clients of Anthropic's API, which send `VERSION_HEADER`, expect the id too."""
UNKNOWN = "unknown"
"""The template of a path that doesn't exist."""


class RequestIds:
    """Middleware that gives every request and every socket its id, and logs each HTTP request at debug.

    The opening of a socket is logged when it is answered, any other request when it has been served.

    `routes` have the templates of the paths. A request's path may begin with `prefix`; a template doesn't.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], prefix: str) -> None:
        self._app = app
        self._routes = routes
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request_id = request_id_in(scope["headers"])
        status: int | None = None
        is_socket = scope["type"] == "websocket"
        is_anthropic = VERSION_HEADER in Headers(scope=scope)
        is_logged = log.isEnabledFor(logging.DEBUG)
        path = self._template(scope) if is_logged else UNKNOWN  # found now, because a route changes the scope
        began_s = perf_counter()

        def log_request() -> None:
            if is_logged:
                took_ms = round((perf_counter() - began_s) * 1000)
                log.debug("request served", method=scope.get("method", "GET"), path=path, status=status, ms=took_ms)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            is_answer = message["type"] in ANSWERS
            if is_socket and status is None and (is_answer or message["type"] == "websocket.close"):
                status = message.get("status", 101 if is_answer else 403)
                log_request()
            if is_answer:
                status = message.get("status", status)
                names = (REQUEST_ID_HEADER, *((ANTHROPIC_HEADER,) if is_anthropic else ()))
                message["headers"] = [*message.get("headers", ()), *((name, request_id.encode()) for name in names)]
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                if not is_socket:
                    log_request()

    def _template(self, scope: Scope) -> str:
        """Return the path with the names of its parameters, such as `/v1/turns/{turn}`."""
        if self._prefix and scope["path"].startswith(self._prefix + "/"):
            scope = {**scope, "root_path": self._prefix}
        for route in self._routes:
            if isinstance(route, Route | WebSocketRoute | Mount) and route.matches(scope)[0] is not Match.NONE:
                return route.path.replace(":path}", "}")
        return UNKNOWN
