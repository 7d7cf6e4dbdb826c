"""Tests of the event that costs little memory."""

from __future__ import annotations

import asyncio

import pytest

from gateway.light_event import LightEvent


async def test_all_who_wait_are_woken_and_later_ones_do_not_wait() -> None:
    event = LightEvent()
    waiting = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not event.is_set()
    assert not any(task.done() for task in waiting)
    event.set()
    async with asyncio.timeout(1):
        await asyncio.gather(*waiting, event.wait())
    assert event.is_set()


async def test_a_cleared_event_is_waited_for_again() -> None:
    event = LightEvent()
    event.set()
    event.clear()
    assert not event.is_set()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await event.wait()


async def test_who_waits_is_woken_even_if_the_event_is_cleared_at_once() -> None:
    """That is what `asyncio.Event` does, too."""
    event = LightEvent()
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    event.set()
    event.clear()
    async with asyncio.timeout(1):
        await waiting


async def test_one_of_two_who_wait_can_be_cancelled() -> None:
    event = LightEvent()
    cancelled, waiting = (asyncio.create_task(event.wait()) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    event.set()
    async with asyncio.timeout(1):
        await waiting
    assert cancelled.cancelled()
