"""Serving below a path: for a proxy that puts a prefix before every path that it hands on.

Where the proxy takes the prefix off again, nothing is needed: the page's addresses are relative to it.
"""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class PathPrefix:
    """Routes see a path without the prefix; what comes without it is served as it is, a health check for one."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """`prefix` begins with a slash and doesn't end with one; empty: every path stays as it is."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        prefix = self._prefix
        if prefix and scope["type"] in {"http", "websocket"}:
            if scope["path"].startswith(prefix + "/"):
                scope = {**scope, "root_path": prefix}
            elif scope["path"] == prefix and scope["type"] == "http":
                # Relative, as it may lie below another prefix: without the last slash the page's addresses would miss.
                await RedirectResponse(f"{prefix.rpartition('/')[2]}/", 308)(scope, receive, send)
                return
        await self._app(scope, receive, send)
