"""Middleware for all HTTP requests: the check of `Host`, the security headers, and CORS."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.frame_headers import frame_headers
from gateway.http.responses import error_response
from gateway.http.unknown_paths import dialect_of
from gateway.identity import origin
from gateway.protocol.errors import ApiError
from gateway.settings import Settings

_SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types dompurify turnwire turnwire-page"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


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
                path = scope["path"].removeprefix(self._settings.path_prefix)
                for name, value in (_SECURITY_HEADERS | frame_headers(path)).items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            origin.check_host(scope["headers"], self._settings)
        except ApiError as refused:
            path = scope["path"].removeprefix(self._settings.path_prefix)
            await error_response(refused, dialect=dialect_of(path, scope))(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


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
