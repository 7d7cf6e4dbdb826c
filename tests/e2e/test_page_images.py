"""Images in answers on the page: shown while the turn runs and after a reload, without moving anything when they load."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route, expect

from tests.e2e.upstream_gateway import gateway_with_upstream
from tests.page_stage import browser_context, ended, open_page
from tests.upstream import Upstream, chat

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="session")]


def png(width: int, height: int) -> str:
    """Return a red image in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\xff\0\0" * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(image).decode()


async def test_an_image_of_an_answer_is_shown(browser: Browser, tmp_path: Path) -> None:
    """The image has a name for screen readers and its own pixels, keeps its place while it loads, and is shown again
    after a reload. An image at another host is a link."""
    pictures = {"images": [{"image_url": {"url": f"data:image/png;base64,{png(900, 600)}"}}]}
    link = {"images": [{"image_url": {"url": "https://images.example/1.png"}}]}
    async with (
        Upstream() as upstream,
        gateway_with_upstream(upstream, tmp_path, TURNWIRE_DEFAULT_MODEL="kimi-k3") as (gateway, _),
        browser_context(browser) as context,
    ):
        upstream.play(chat("Here: ", pictures, "Below.", link))
        held: list[Route] = []
        await context.route("**/v1/messages/*/parts/*", lambda route: held.append(route))
        watched = await open_page(context, f"{gateway.url}/")
        await watched.ask("Draw")
        answer = watched.turn("Draw")
        image = answer.get_by_role("img", name="Image by the model")
        await ended(answer, "completed")
        await expect(answer.get_by_text("Below.")).to_be_visible()
        before = await answer.get_by_text("Below.").bounding_box()
        while not held:
            await watched.page.wait_for_timeout(20)
        await held[0].continue_()
        assert await image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 900
        assert await answer.get_by_text("Below.").bounding_box() == before
        shown = await image.bounding_box()
        assert shown is not None
        assert shown["height"] > 100
        await expect(answer.get_by_role("link", name="Image by the model")).to_have_attribute(
            "href", "https://images.example/1.png"
        )
        await context.unroute("**/v1/messages/*/parts/*")
        await watched.page.reload()
        await expect(image).to_be_visible()
        assert await image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 900
        assert watched.errors == []
