"""Serve the gateway under a path prefix, for a proxy that keeps the prefix when it forwards a request.

If the proxy removes the prefix, no setting is needed, because the page's URLs are relative.
"""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class PathPrefix:
    """Middleware that hides the prefix from the routes.

    A request without the prefix, such as a health check, is served unchanged.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """Wrap `app`. `prefix` begins with a slash and doesn't end with one; if it is empty, no path is changed."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        prefix = self._prefix
        if prefix and scope["type"] in {"http", "websocket"}:
            if scope["path"].startswith(prefix + "/"):
                scope = {**scope, "root_path": prefix}
            elif scope["path"] == prefix and scope["type"] == "http":
                # Without the trailing slash, the page's relative URLs would be wrong. The redirect is relative too, because
                # an outer proxy may have removed another prefix before this one.
                await RedirectResponse(f"{prefix.rpartition('/')[2]}/", 308)(scope, receive, send)
                return
        await self._app(scope, receive, send)
