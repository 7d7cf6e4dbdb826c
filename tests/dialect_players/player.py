"""A client of one turn, as the matrix of dialects plays it. Each dialect has a class of its own.

A dialect's entry is its class: it starts a turn, reads its stream, leaves it, resumes it at any instance, and cancels.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import httpx2
from websockets.exceptions import ConnectionClosed

from tests.credentials import token
from tests.dialect_players.talks import MODEL

TIMEOUT_S = 30.0
CONTINUE = {"turnwire-on-disconnect": "continue"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "number"}}}

Kind = Literal["thoughts", "calls", "images"]
Ending = Literal["completed", "cancelled", "failed"]


class Refused(Exception):
    """The gateway refused a request with this status, and an error in the shape of the dialect."""

    def __init__(self, status: int | str, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Ask:
    """The request of a client, independent of its dialect. `image` is a `data:` address."""

    prompt: str
    user: str
    model: str = MODEL
    has_tool: bool = False
    image: str | None = None
    survives: bool = True
    """Whether the answer must continue without its client, if that isn't the protocol's default."""


@dataclass
class Stage:
    """What all players share. `closers` are awaited at the end."""

    http: httpx2.AsyncClient
    closers: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    shared: dict[str, Any] = field(default_factory=dict)


class Player(ABC):
    """A client. `turn` is the id by which its protocol finds the answer again.

    `text`, `thoughts` and `calls` are what it shows. `ending` is how the answer ended, None before; `error` is what it was
    told. `resumes_ended`: an answer that has ended can be resumed. `shows`: what its protocol has besides text.
    `tells_cancels`: it can say that an answer was cancelled. `ends_when_left`: by default, it is cancelled without a client.
    """

    name: ClassVar[str]
    resumes_ended: ClassVar[bool] = True
    shows: ClassVar[frozenset[Kind]] = frozenset({"thoughts", "calls", "images"})
    tells_cancels: ClassVar[bool] = True
    ends_when_left: ClassVar[bool] = False

    def __init__(self, stage: Stage, ask: Ask) -> None:
        self.stage = stage
        self.ask = ask
        self.turn = ""
        self.text = ""
        self.thoughts = ""
        self.calls: list[tuple[str, str]] = []
        self.ending: Ending | None = None
        self.error = ""
        self.events = 0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request."""
        return {"authorization": f"Bearer {token(self.ask.user)}", **self.on_disconnect}

    @property
    def on_disconnect(self) -> dict[str, str]:
        """The header that says what a lost connection means."""
        return CONTINUE if self.ask.survives else {}

    def stranger(self, user: str, turn: str | None = None) -> Self:
        """Return a client of another user that uses the id of this client's answer, or the unknown id `turn`."""
        made = type(self)(self.stage, Ask(self.ask.prompt, user))
        made.turn = turn or self.turn
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.leave()

    @abstractmethod
    async def start(self, url: str) -> None:
        """Send the request to the instance at `url`, and open the stream. Raises `Refused`."""

    async def reply(self, url: str, result: str) -> None:
        """Send the result of the call, the only one, and open the stream of the answer to it. Raises `Refused`."""
        raise NotImplementedError

    def forget(self) -> None:
        """Show nothing: another answer begins."""
        self.text, self.thoughts, self.calls, self.ending = "", "", [], None

    @abstractmethod
    async def resume(self, url: str) -> None:
        """Open the stream again, after the last event that this client has read. Raises `Refused`."""

    @abstractmethod
    async def cancel(self, url: str) -> str:
        """Stop the answer, and return what the gateway said. Raises `Refused`."""

    @abstractmethod
    async def leave(self) -> None:
        """Close the stream. The answer continues."""

    @abstractmethod
    async def next(self) -> Any:
        """Return the next event of the stream, or None at its end."""

    @abstractmethod
    def take(self, event: Any) -> None:
        """Add an event to what is shown."""

    async def read(self, until: Callable[[Self], bool] = lambda _: False) -> None:
        """Read until the condition holds, the answer has ended, or the connection is lost."""
        async with asyncio.timeout(TIMEOUT_S):
            while self.ending is None and not until(self):
                try:
                    event = await self.next()
                except (httpx2.HTTPError, ConnectionClosed):
                    return
                if event is None:
                    return
                self.events += 1
                self.take(event)


@dataclass(frozen=True)
class Sse:
    """One server-sent event."""

    data: str
    id: str | None = None
    event: str | None = None

    def json(self) -> Any:
        """Return the data as JSON."""
        return json.loads(self.data)


class HttpPlayer(Player):
    """A client whose stream is the body of a response."""

    response: httpx2.Response | None = None
    _events: AsyncIterator[Any] | None = None

    async def open(self, method: str, address: str, **options: Any) -> httpx2.Response:
        """Send a request and return the response, whose body is read later. Raises `Refused`."""
        headers = {**self.headers, **options.pop("headers", {})}
        request = self.stage.http.build_request(method, address, headers=headers, **options)
        response = await self.stage.http.send(request, stream=True)
        if response.status_code >= 400:
            refused = Refused(response.status_code, (await response.aread()).decode())
            await response.aclose()
            raise refused
        self.response = response
        self._events = self.parse(response)
        return response

    async def call(self, method: str, address: str, **options: Any) -> str:
        """Send a request and return the body of its answer. Raises `Refused`."""
        response = await self.stage.http.request(method, address, headers=self.headers, **options)
        if response.status_code >= 400:
            raise Refused(response.status_code, response.text)
        return response.text

    def parse(self, response: httpx2.Response) -> AsyncIterator[Any]:
        """Return the events of a response's body."""
        return server_sent_events(response)

    async def next(self) -> Any:
        """Return the next event of the stream, or None at its end."""
        return None if self._events is None else await anext(self._events, None)

    async def leave(self) -> None:
        """Close the connection."""
        if self.response is not None:
            await self.response.aclose()
            self.response = self._events = None


async def server_sent_events(response: httpx2.Response) -> AsyncIterator[Sse]:
    """Yield the events of a stream. Comments are left out."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif not line:
            if "data" in fields:
                yield Sse(fields["data"], fields.get("id"), fields.get("event"))
            fields = {}
