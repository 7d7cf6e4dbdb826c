"""`/docs/guide`: the site of the documents, if `make docs` has built it. The page `/docs` describes the API."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from gateway.http.responses import error_response
from gateway.protocol.errors import ApiError

_POLICY = "content-security-policy.txt"
_NOT_BUILT = ApiError("not_found", "The documents aren't built here. Run make docs, and restart the gateway.")


def guide_dir() -> Path:
    """Return the folder of the site: in the installed package, or in the root of a checkout. It may not exist."""
    installed = Path(__file__).parents[1] / "site"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "site"


class Guide(StaticFiles):
    """The files of the site in `folder`, which has to exist when this object is made.

    Its pages have inline scripts, and may run no others. Their policy allows no other site and no frame, as the chat's does.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder, html=True, check_dir=False)
        policy = folder / _POLICY
        text = policy.read_text(encoding="utf-8").strip() if policy.is_file() else ""
        self._headers = {"content-security-policy": text} if text else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Without the site, the error says what to do."""
        if self._headers is None:
            await error_response(_NOT_BUILT)(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the response for a file, or for the index of a folder. `path` is relative to the folder of the site."""
        response = await super().get_response(path, scope)
        if isinstance(response, RedirectResponse):
            # The address that the client has used isn't known behind a proxy, so the new one is relative.
            response.headers["location"] = scope["path"].rpartition("/")[2] + "/"
        response.headers.update(self._headers or {})
        return response


def guide_routes(folder: Path) -> list[BaseRoute]:
    """Return the routes of the site in a folder."""
    return [
        Route("/docs/guide", lambda _: RedirectResponse("guide/", 308)),
        Mount("/docs/guide", Guide(folder)),
    ]
