"""The page at `/`, and the folder of its files, which `assets.py` serves."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from gateway.http.assets import Assets
from gateway.http.endpoints import Endpoint
from gateway.http.negotiation import preferred_media_type
from gateway.http.operations import OPERATIONS
from gateway.http.request_body import JSON_TYPE
from gateway.http.responses import error_response
from gateway.http.unknown_paths import WRONG_METHOD


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
