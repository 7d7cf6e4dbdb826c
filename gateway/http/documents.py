"""The routes of the documents `/openapi.json` and `/asyncapi.json`. Each document is built once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http.asyncapi import asyncapi
from gateway.http.openapi import openapi
from gateway.http.responses import BytesResponse
from gateway.protocol.codec import JSON
from gateway.settings import Settings

JSON_TYPE = "application/json"


def document_routes(settings: Settings) -> list[Route]:
    """Return the routes of both documents, for a gateway with these settings."""
    host = settings.page_url.partition("://")[2]
    return [
        Route("/openapi.json", _serve(cache(lambda: JSON.encode(openapi(settings.auth))))),
        Route("/asyncapi.json", _serve(cache(lambda: JSON.encode(asyncapi(host))))),
    ]


def _serve(build: Callable[[], bytes]) -> Callable[[Request], Response]:
    async def respond(_: Request) -> Response:
        return BytesResponse(build(), media_type=JSON_TYPE)

    return respond  # type: ignore[return-value]
