"""Large work runs in a thread outside the loop, one piece at a time; small work runs in the loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from gateway.offload import ITEM_BYTES, LARGE_BYTES, offload, request_size
from providers.base import ChatMessage, ChatRequest, ImagePart, TextPart, ToolCallPart, ToolResultPart


async def test_small_work_is_done_at_once() -> None:
    """Small work runs in the loop's own thread, with the given arguments."""
    assert await offload(LARGE_BYTES, lambda: threading.get_ident()) == threading.get_ident()
    assert await offload(1, int, "12", base=3) == 5


async def test_large_work_does_not_block_the_loop() -> None:
    """Large work runs in another thread, and its exception is raised in the caller."""
    continued = threading.Event()
    asyncio.get_running_loop().call_later(0.05, continued.set)
    assert await offload(LARGE_BYTES + 1, continued.wait, 10)
    with pytest.raises(ValueError, match="invalid literal"):
        await offload(LARGE_BYTES + 1, int, "x")


async def test_large_work_is_done_one_after_the_other() -> None:
    """Large work runs one piece at a time, however many callers submit it."""
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        running -= 1

    await asyncio.gather(*(offload(LARGE_BYTES + 1, work) for _ in range(10)))
    assert most == 1


def test_a_requests_size_includes_all_its_parts() -> None:
    """Texts, data, URLs, arguments and outputs are included, and the system prompt as well. Many tiny parts make a request
    large."""
    question = ChatMessage(
        "user", (TextPart("1234"), ImagePart("image/png", data="12345"), ImagePart("image/png", url="data:,12"))
    )
    called = ChatMessage("assistant", (ToolCallPart("c", "f", "123456"), ToolResultPart("c", "1234567")))
    request = ChatRequest(model="m", messages=(question, called), system="123")
    assert request_size(request) == 4 + 5 + 8 + 6 + 7 + 3 + 7 * ITEM_BYTES
    many = ChatMessage("user", (TextPart("a"),) * 3000)
    assert request_size(ChatRequest(model="m", messages=(many,))) > LARGE_BYTES
