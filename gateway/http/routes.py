"""All HTTP routes: the API, its documents, the page and its files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from gateway.http.assets import Assets
from gateway.http.asyncapi import asyncapi
from gateway.http.endpoints import api_routes
from gateway.http.openapi import openapi
from gateway.http.page import Index, static_dir
from gateway.http.request_body import JSON_TYPE
from gateway.http.responses import BytesResponse, HttpError, error_response
from gateway.protocol.codec import JSON
from gateway.settings import Settings


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
