"""All HTTP routes: the API, its documents, the page and its files. Also the `Host` check, security headers and CORS."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.dialects.anthropic_messages import MESSAGES
from gateway.dialects.base import Dialect
from gateway.http.assets import Assets
from gateway.http.asyncapi import asyncapi
from gateway.http.dialects.anthropic_messages import VERSION_HEADER
from gateway.http.dialects.table import dialect_at
from gateway.http.endpoints import Endpoint, api_routes
from gateway.http.negotiation import preferred_media_type
from gateway.http.openapi import openapi
from gateway.http.operations import OPERATIONS
from gateway.http.request_body import JSON_TYPE
from gateway.http.responses import BytesResponse, HttpError, error_response
from gateway.identity import origin
from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError
from gateway.settings import Settings

_SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify turnwire"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


WRONG_METHOD = HttpError(405, "This path doesn't support the method. Use one of the methods in the Allow header.")


class Index:
    """`/`: the page, or the information about the service for a client that prefers JSON."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets
        self._about = Endpoint({about.method: about for about in OPERATIONS if about.path == "/v1"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] not in {"GET", "HEAD", "OPTIONS"}:
            await error_response(WRONG_METHOD, {"allow": "GET, HEAD, OPTIONS"})(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A client that sends `application/json, */*` wants JSON: the page is only for one that names text/html.
        offered = ("text/html", JSON_TYPE) if "text/html" in headers.get("accept", "") else (JSON_TYPE,)
        prefers_json = JSON_TYPE in headers.get("accept", "") and preferred_media_type(headers, offered) == JSON_TYPE

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).add_vary_header("Accept")
            await send(message)

        answer = self._about if prefers_json else await self._assets.page("index.html", scope)
        await answer(scope, receive, send_with_vary)


def static_dir() -> Path:
    """Return the folder of the page's files: in the installed package, or in the root of a checkout."""
    installed = Path(__file__).parents[1] / "static"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "static"


class SecurityMiddleware:
    """Middleware for HTTP requests: it checks `Host` first, and adds the security headers to every response."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            origin.check_host(scope["headers"], self._settings)
        except ApiError as refused:
            path = scope["path"].removeprefix(self._settings.path_prefix)
            await error_response(refused, dialect=_dialect_of(path, scope))(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


async def handle_not_found(request: Request, error: Exception) -> Response:
    """Return the error response for an unknown path (404) or a wrong method (405)."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    dialect = _dialect_of(path, request.scope)
    if isinstance(error, HTTPException) and error.status_code == 405:
        return error_response(WRONG_METHOD, error.headers, dialect)
    return error_response(ApiError("not_found", "Path not found. GET /v1 lists the addresses."), dialect=dialect)


def _dialect_of(path: str, scope: Scope) -> Dialect | None:
    """Return the dialect of an error: that of the address, or Anthropic's, whose clients send a header of their own."""
    found = dialect_at(path)
    is_own = path.startswith("/v1/messages/")  # the messages of our own API
    return MESSAGES if found is None and not is_own and VERSION_HEADER in Headers(scope=scope) else found


async def refuse_without_upgrade(_: Request) -> Response:
    """Return the error response for the socket's path without a WebSocket handshake."""
    refused = HttpError(
        426,
        "This is the address of the WebSocket. Connect with a WebSocket client, or see GET /v1 for plain HTTP. If your "
        "client is one, a proxy has removed the Upgrade header.",
    )
    return error_response(refused, {"upgrade": "websocket"})


def routes(settings: Settings) -> list[BaseRoute]:
    """Return the HTTP routes of the gateway."""
    folder = static_dir()
    assets = Assets(folder, is_installed=folder.parent == Path(__file__).parents[1], auth=settings.auth)
    host = settings.page_url.partition("://")[2]

    async def docs(request: Request) -> Response:
        return await assets.page("docs.html", request.scope)

    return [
        Route("/", Index(assets)),
        *api_routes(),
        Route("/ws", refuse_without_upgrade),
        Route("/openapi.json", _serve_document(lambda: openapi(settings.auth))),
        Route("/asyncapi.json", _serve_document(lambda: asyncapi(host))),
        Route("/docs", docs),
        Route("/redoc", lambda _: RedirectResponse("docs", 308)),  # other frameworks have their documents there
        Mount("/static", assets),
    ]


def _serve_document(build: Callable[[], dict[str, Any]]) -> Callable[[Request], Response]:
    encoded = cache(lambda: JSON.encode(build()))

    async def respond(_: Request) -> Response:
        return BytesResponse(encoded(), media_type=JSON_TYPE)

    return respond  # type: ignore[return-value]


def with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap `app` so that pages from the allowed origins can read its responses (CORS).

    Cookies aren't allowed: such a page sends its credential in the `Authorization` header.
    """
    return CORSMiddleware(
        app,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST", "PATCH", "DELETE"),
        allow_headers=("*",),  # the SDKs of other services send headers of their own
        expose_headers=(
            *("link", "location", "preference-applied", "request-id", "retry-after", "x-request-id"),
            *("retry-after-ms", "turnwire-error", "turnwire-turn", "x-should-retry"),
        ),
    )
