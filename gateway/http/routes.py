"""All HTTP routes: the API, its documents, the page and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from gateway.http.assets import Assets, has_tag
from gateway.http.asyncapi import asyncapi
from gateway.http.endpoints import api_routes
from gateway.http.guide import guide_dir, guide_routes
from gateway.http.openapi import openapi
from gateway.http.page import Index, static_dir
from gateway.http.request_body import JSON_TYPE
from gateway.http.responses import BytesResponse, HttpError, error_response
from gateway.protocol.codec import JSON
from gateway.settings import Settings


async def refuse_without_upgrade(_: Request) -> Response:
    """Return the error response to a request for the socket's path that isn't a WebSocket handshake."""
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

    def page(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            return await assets.page(name, request.scope)

        return serve

    return [
        Route("/", Index(assets)),
        *api_routes(),
        Route("/ws", refuse_without_upgrade),
        Route("/openapi.json", _serve_document(lambda: openapi(settings.auth))),
        Route("/asyncapi.json", _serve_document(lambda: asyncapi(host))),
        Route("/docs", page("docs.html")),
        *guide_routes(guide_dir()),
        Route("/app.webmanifest", page("app.webmanifest")),
        Route("/sw.js", page("sw.js")),
        Route("/redoc", lambda _: RedirectResponse("docs", 308)),  # other frameworks have their documents there
        Mount("/static", assets),
    ]


def _serve_document(build: Callable[[], dict[str, Any]]) -> Callable[[Request], Response]:
    encoded = cache(lambda: JSON.encode(build()))
    tag = cache(lambda: f'"{hashlib.sha256(encoded()).hexdigest()[:16]}"')

    async def respond(request: Request) -> Response:
        if has_tag(request.headers, tag()):
            return Response(status_code=304, headers={"etag": tag()})
        return BytesResponse(encoded(), media_type=JSON_TYPE, headers={"etag": tag()})

    return respond  # type: ignore[return-value]
