"""Players of plain HTTP: its stateless stream, and its sessions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx2

from tests.dialect_players.followers import Follower
from tests.dialect_players.player import Ask, HttpPlayer, Kind, Refused, Sse, Stage


class Lines(Follower):
    """The stateless stream of plain HTTP: lines of JSON."""

    name: ClassVar[str] = "plain-lines"
    ends_when_left: ClassVar[bool] = True
    shows: ClassVar[frozenset[Kind]] = frozenset()

    async def start(self, url: str) -> None:
        body = {"model": self.ask.model, "messages": [{"role": "user", "content": self.ask.prompt}]}
        response = await self.open("POST", f"{url}/stream", json=body)
        self.turn = response.headers["turnwire-turn"]

    async def parse_own(self, response: httpx2.Response) -> AsyncIterator[Any]:
        async for line in response.aiter_lines():
            yield json.loads(line)

    def take_own(self, event: Any) -> None:
        show(self, event)


class Session(HttpPlayer):
    """A session of plain HTTP. What runs in it can be followed from its beginning; what has ended is in its history."""

    name: ClassVar[str] = "plain-session"
    shows: ClassVar[frozenset[Kind]] = frozenset()
    resumes_ended: ClassVar[bool] = False

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self.turn = f"session-{id(self)}"
        self._answer = ""

    def stranger(self, user: str, turn: str | None = None) -> Session:
        made = super().stranger(user, turn)
        made._answer = turn or self._answer
        return made

    async def start(self, url: str) -> None:
        body = {"sessionId": self.turn, "message": self.ask.prompt, "model": self.ask.model}
        response = await self.open("POST", f"{url}/api/chat", json=body, headers={"accept": "text/event-stream"})
        self._answer = response.headers["turnwire-turn"]

    async def resume(self, url: str) -> None:
        self.text = ""
        address = f"{url}/api/v1/conversations/{self.turn}"
        response = await self.open("GET", f"{address}/stream")
        if response.status_code == 204:
            messages = json.loads(await self.call("GET", f"{address}/messages"))["messages"]
            self.text, self.ending = messages[-1]["content"], "completed"

    async def cancel(self, url: str) -> str:
        try:
            said = await self.call("POST", f"{url}/v1/turns/{self._answer}/cancel")
        except Refused as refused:
            raise Refused(refused.status, refused.body.replace(self._answer, self.turn)) from None
        return said.replace(self._answer, self.turn)

    def take(self, event: Sse) -> None:
        show(self, event.json())


def show(player: HttpPlayer, event: dict[str, Any]) -> None:
    """Add an event of plain HTTP to what a client shows."""
    player.text += event["content"]
    if "error" in event:
        player.ending, player.error = "failed", event["error"]["message"]
    elif event["finished"]:
        reasons = {event.get("finishReason"), event.get("finish_reason")}
        player.ending = "cancelled" if "cancelled" in reasons else "completed"
