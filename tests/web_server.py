"""A local web server for the parts of a test that aren't a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

PAGE = (
    "<!doctype html><meta charset=utf-8><title>chat</title><link rel=icon href=data:,>"
    "<div id=app></div><script type=module src=/page.js></script>"
)


@asynccontextmanager
async def web_server(app: web.Application, shutdown_timeout_s: float = 60) -> AsyncIterator[str]:
    """Serve `app` on a free port, and yield its origin, such as http://127.0.0.1:4000."""
    runner = web.AppRunner(app, shutdown_timeout=shutdown_timeout_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def page_server(script: str) -> AsyncIterator[str]:
    """Serve a page with an empty element `app` and this script at every path, and yield its origin."""

    async def serve(request: web.Request) -> web.Response:
        if request.path == "/page.js":
            return web.Response(text=script, content_type="text/javascript")
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    async with web_server(app) as origin:
        yield origin
