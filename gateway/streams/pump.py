"""Send the frames of an outbox as fast as its client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.streams.outbox import Outbox

WRITES_BEFORE_YIELD = 16
LONG_FRAME_BYTES = 8192
"""A longer frame may be merged from thousands of events, so other tasks run after each such frame."""


async def pump(
    outbox: Outbox, send: Callable[[bytes], Awaitable[bool]], wait_for_more: Callable[[], Awaitable[bool]]
) -> None:
    """Send frames until `send` or `wait_for_more` returns False.

    `send` sends one frame; `wait_for_more` waits while the outbox is empty.
    """
    frames, size = 0, outbox.codec.size
    while True:
        frame = outbox.next_frame()
        if frame is None:
            if not await wait_for_more():
                return
            continue
        more = await send(frame)
        notify_sent(outbox)
        if not more:
            return
        frames += 1
        if frames % WRITES_BEFORE_YIELD == 0 or size(frame) > LONG_FRAME_BYTES:
            await asyncio.sleep(0)


def notify_sent(outbox: Outbox) -> None:
    """Tell the outbox's latency sample, if there is one, that a frame was sent."""
    if outbox.frame_observer is not None:
        outbox.frame_observer.record_sent(outbox)
