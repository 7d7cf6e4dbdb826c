"""Plain HTTP: the page, its files, health, readiness and service information."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import __version__, auth
from gateway.codec import BY_SUBPROTOCOL, JSON
from gateway.errors import CODES, ApiError
from gateway.protocol import PROTOCOL
from gateway.services import Services
from gateway.settings import Settings
from store.base import StoreError

_SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify turnwire"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def static_folder() -> Path:
    """The page's files: inside the installed package, or beside it in a checkout."""
    installed = Path(__file__).with_name("static")
    return installed if installed.is_dir() else Path(__file__).parent.parent / "static"


class Json(Response):
    """A JSON answer, by the gateway's own encoder."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return JSON.encode(content)


class PageGuard:
    """Checks `Host` before anything else, and sends the security headers with every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            auth.check_host(scope["headers"], self._settings)
        except ApiError as refused:
            await _error(refused)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def _error(error: ApiError) -> Response:
    return Json({"error": error.body}, CODES[error.code].http_status)


async def unknown_address(_: Request, error: Exception) -> Response:
    """No such address, or not with that method."""
    if getattr(error, "status_code", 404) == 405:
        return Json({"error": ApiError("invalid_request", "This address takes another method.").body}, 405)
    return _error(ApiError("not_found", "There is no such address. GET /v1 says what there is."))


def routes(settings: Settings, services: Callable[[], Services]) -> list[BaseRoute]:
    """The HTTP routes of the gateway."""
    folder = static_folder()

    async def page(_: Request) -> Response:
        return FileResponse(folder / "index.html", media_type="text/html")

    async def health(_: Request) -> Response:
        return Json({"status": "ok"})

    async def ready(_: Request) -> Response:
        if services().runner.draining:
            return _error(ApiError("shutting_down"))
        try:
            await services().store.ping()
        except StoreError:
            return _error(ApiError("store_unavailable"))
        return Json({"status": "ready"})

    async def about(_: Request) -> Response:
        return Json(
            {
                "name": "turnwire",
                "version": __version__,
                "protocol": PROTOCOL,
                "subprotocols": list(BY_SUBPROTOCOL),
                "instance": services().instance,
                "auth": settings.auth,
            }
        )

    async def models(_: Request) -> Response:
        return Json({"models": services().catalog.models(), "default": services().runner.default_model})

    return [
        Route("/", page),
        Route("/health", health),
        Route("/ready", ready),
        Route("/v1", about),
        Route("/v1/models", models),
        Mount("/static", StaticFiles(directory=folder, check_dir=False)),
    ]
