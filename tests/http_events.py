"""Read a turn's events from an HTTP stream, SSE or NDJSON, and check laws 1 and 2 on each event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from tests.client import Frame, TurnView

TIMEOUT_S = 20.0
JSON = {"content-type": "application/json"}
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


@asynccontextmanager
async def http_client(url: str, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Open an HTTP client for the gateway at `url`."""
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=TIMEOUT_S, **options) as made:
        yield made


class EventReader:
    """The reader of one stream. `frames` holds the events with a seq, `asides` the other events, `ids` the SSE
    ids of `frames`."""

    def __init__(self, response: httpx2.Response, view: TurnView) -> None:
        self.response = response
        self.view = view
        self.frames: list[Frame] = []
        self.asides: list[Frame] = []
        self.ids: list[str] = []
        self.retry_ms: int | None = None
        self._lines = response.aiter_lines()

    async def next(self) -> Frame | None:
        """Return the next event with a seq, or None at the end of the stream."""
        async with asyncio.timeout(TIMEOUT_S):
            if self.response.headers["content-type"] == NDJSON:
                return await self._next_line()
            return await self._next_event()

    async def _next_line(self) -> Frame | None:
        async for line in self._lines:
            frame = msgspec.json.decode(line)
            if "seq" in frame:
                return self._receive(frame)
            self.asides.append(frame)
        return None

    async def _next_event(self) -> Frame | None:
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if line and not name:
                self.asides.append(msgspec.json.decode(value))
            elif line:
                assert name not in fields
                fields[name] = value
            elif "data" in fields:
                frame: Frame = msgspec.json.decode(fields["data"])
                assert fields["event"] == frame["type"]
                self._receive(frame)
                assert fields["id"] == f"{self.view.epoch}-{frame['seq']}"
                self.ids.append(fields["id"])
                return frame
            else:
                if "retry" in fields:
                    self.retry_ms = int(fields["retry"])
                fields = {}
        return None

    def _receive(self, frame: Frame) -> Frame:
        self.frames.append(frame)
        self.view.apply(frame)
        return frame

    async def ending(self) -> Frame:
        """Read to the end event, which is the last one of the stream, and return it."""
        while await self.next():
            pass
        assert self.view.ended is not None, self.frames[-3:]
        return self.view.ended

    async def until_seq(self, seq: int) -> None:
        """Read until the event with this seq has been received."""
        while self.view.seq < seq:
            assert await self.next() is not None


@asynccontextmanager
async def started(http: httpx2.AsyncClient, *, accept: str = SSE, **fields: Any) -> AsyncIterator[EventReader]:
    """Start a turn and open its stream."""
    async with http.stream("POST", "/v1/turns", json=fields, headers={"accept": accept}) as response:
        if response.status_code != 200:
            raise AssertionError((await response.aread()).decode())
        yield EventReader(response, TurnView())


@asynccontextmanager
async def followed(
    http: httpx2.AsyncClient, turn: str, view: TurnView | None = None, *, accept: str = SSE
) -> AsyncIterator[EventReader]:
    """Open the stream of a turn, from the position of `view`."""
    view = view or TurnView()
    headers = {"accept": accept}
    if view.epoch is not None:
        headers["last-event-id"] = f"{view.epoch}-{view.seq}"
    async with http.stream("GET", f"/v1/turns/{turn}/events", headers=headers) as response:
        yield EventReader(response, view)
