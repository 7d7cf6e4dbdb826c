"""Tests of the queue between a socket and its application."""

from __future__ import annotations

import asyncio

import pytest

from gateway.transport.message_queue import MessageQueue


async def test_messages_arrive_in_their_order() -> None:
    queue: MessageQueue[int] = MessageQueue()
    for number in range(3):
        queue.put_nowait(number)
    assert not queue.empty()
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]
    assert queue.empty()


async def test_the_reader_waits_for_the_next_message() -> None:
    queue: MessageQueue[int] = MessageQueue()
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not reader.done()
    queue.put_nowait(1)
    queue.put_nowait(2)
    async with asyncio.timeout(1):
        assert await reader == 1
        assert await queue.get() == 2


async def test_a_reader_that_gives_up_loses_no_message() -> None:
    """Not even if it is cancelled after a message has woken it."""
    queue: MessageQueue[int] = MessageQueue()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.get()
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(1)
    reader.cancel()
    await asyncio.wait([reader])
    assert reader.cancelled()
    async with asyncio.timeout(1):
        assert await queue.get() == 1
