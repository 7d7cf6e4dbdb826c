"""Players with npm's packages. They share a Node process, `tests/dialect_clients/players_client.js`."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any, ClassVar

import httpx2

from tests.dialect_players.player import SCHEMA, TIMEOUT_S, Ask, Player, Refused, Stage
from tests.dialect_players.talks import TOOL
from tests.programs import installed, program

CLIENTS = Path(__file__).parents[1] / "dialect_clients"


class Node:
    """The Node process. Each of its clients has a queue with the lines about its stream, and one for its commands."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._queues: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._results: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def of(cls, stage: Stage) -> Node:
        """Return the process of this stage, which is started at the first call."""
        if "node" not in stage.shared:
            installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
            process = await asyncio.create_subprocess_exec(
                *(program("node"), "--no-warnings", "--experimental-websocket", CLIENTS / "players_client.js"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**22,
            )
            node = stage.shared["node"] = cls(process)
            stage.closers.append(node.close)
        found: Node = stage.shared["node"]
        return found

    def open(self, kind: str, **fields: Any) -> int:
        """Make a client, and return its number."""
        number = next(self._numbers)
        self._queues[number] = asyncio.Queue()
        self._results[number] = asyncio.Queue()
        self._write({"client": number, "do": "open", "kind": kind, **fields})
        return number

    async def do(self, client: int, what: str, **fields: Any) -> Any:
        """Let a client do something, and return the result. Raises `Refused`."""
        self._write({"client": client, "do": what, **fields})
        async with asyncio.timeout(TIMEOUT_S):
            line = await self._results[client].get()
        if line["kind"] == "refused":
            raise Refused("refused", line["error"])
        return line["result"]

    async def line(self, client: int) -> dict[str, Any]:
        """Return the next line about the stream of a client."""
        return await self._queues[client].get()

    def forget(self, client: int) -> None:
        """Let a client leave its stream."""
        self._write({"client": client, "do": "leave"})

    async def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    def _write(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            found = json.loads(line)
            queues = self._results if found["kind"] in {"done", "refused"} else self._queues
            queues[found["client"]].put_nowait(found)


class NodePlayer(Player):
    """A client in the Node process: a new one for each stream."""

    kind: ClassVar[str]
    _client: int | None = None

    async def open(self, what: str, url: str, fields: dict[str, Any], **more: Any) -> Any:
        """Make the client, and let it do something. Raises `Refused`."""
        await self.leave()
        node = await Node.of(self.stage)
        self._client = node.open(self.kind, url=url, headers=self.headers, **fields)
        return await node.do(self._client, what, **more)

    async def next(self) -> Any:
        assert self._client is not None
        line = await (await Node.of(self.stage)).line(self._client)
        if line["kind"] == "lost":
            raise httpx2.ReadError(line["error"])
        if line["kind"] == "end":
            self.end(line)
            return None
        return line["event"]

    def end(self, line: dict[str, Any]) -> None:
        """Take the last line of a stream."""

    async def leave(self) -> None:
        if self._client is not None:
            (await Node.of(self.stage)).forget(self._client)
            self._client = None


class AiSdk(NodePlayer):
    """A chat of the AI SDK. Resuming replays the whole answer; once it has ended, a page loads the messages."""

    name: ClassVar[str] = "ai-sdk-sse"
    kind: ClassVar[str] = "aiSdk"
    resumes_ended: ClassVar[bool] = False
    is_socket: ClassVar[bool] = False

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self.turn = f"chat-{id(self)}"
        self._ending: Any = None
        self._message: dict[str, Any] | None = None

    async def start(self, url: str) -> None:
        parts: list[dict[str, Any]] = [{"type": "text", "text": self.ask.prompt}]
        if self.ask.image is not None:
            media_type = self.ask.image.removeprefix("data:").partition(";")[0]
            parts.append({"type": "file", "mediaType": media_type, "url": self.ask.image})
        self._messages: list[Any] = [{"id": "u1", "role": "user", "parts": parts}]
        await self._send(url)

    async def reply(self, url: str, result: str) -> None:
        """The answer becomes a further step of the same message, as `addToolOutput` makes it."""
        assert self._message is not None
        for part in self._message["parts"]:
            if part["type"] == f"tool-{TOOL}":
                part |= {"state": "output-available", "output": result}
        self._messages.append(self._message)
        self._message = self._ending = None
        self.forget()
        await self._send(url)

    async def _send(self, url: str) -> None:
        body: dict[str, Any] = {"model": self.ask.model}
        if self.ask.has_tool:
            body["tools"] = {TOOL: {"description": "Add", "inputSchema": SCHEMA}}
        await self.open("start", url, self._fields, messages=self._messages, body=body)

    async def resume(self, url: str) -> None:
        if await self.open("resume", url, self._fields) == "nothing":
            await self._load(url)

    async def cancel(self, url: str) -> str:
        response = await self.stage.http.post(f"{url}/api/chat/{self.turn}/stop", headers=self.headers)
        return response.text

    def take(self, event: Any) -> None:
        kind = event["type"]
        if kind in {"start", "reset-step"}:
            self.text, self.thoughts, self.calls = "", "", []
        elif kind == "text-delta":
            self.text += event["delta"]
        elif kind == "reasoning-delta":
            self.thoughts += event["delta"]
        elif kind == "tool-input-start":
            self.calls.append((event["toolName"], ""))
        elif kind == "tool-input-delta":
            name, arguments = self.calls.pop()
            self.calls.append((name, arguments + event["inputTextDelta"]))
        elif kind == "abort":
            self._ending = "cancelled"
        elif kind == "error":
            self._ending, self.error = "failed", event["errorText"]
        elif kind == "finish" and self._ending is None:
            self._ending = "completed"

    def end(self, line: dict[str, Any]) -> None:
        self._message = line["message"]
        if line["message"] is not None:
            self._show_same(line["message"])
        self.ending = self._ending

    def _show_same(self, message: dict[str, Any]) -> None:
        """Check that the message of the SDK has what the chunks said."""
        parts = message["parts"]
        assert "".join(part["text"] for part in parts if part["type"] == "text") == self.text
        assert "".join(part["text"] for part in parts if part["type"] == "reasoning") == self.thoughts

    async def _load(self, url: str) -> None:
        response = await self.stage.http.get(f"{url}/api/chat/{self.turn}/messages", headers=self.headers)
        if response.status_code != 200:
            raise Refused(response.status_code, response.text)
        parts = response.json()["messages"][-1]["parts"]
        self.text = "".join(part["text"] for part in parts if part["type"] == "text")
        self.thoughts = "".join(part["text"] for part in parts if part["type"] == "reasoning")
        self.ending = "completed"

    @property
    def _fields(self) -> dict[str, Any]:
        return {"socket": self.is_socket, "chat": self.turn}


class AiSdkSocket(AiSdk):
    """The same on a WebSocket. A request that fails breaks only its own stream, with the error that it was told."""

    name: ClassVar[str] = "ai-sdk-socket"
    is_socket: ClassVar[bool] = True

    async def next(self) -> Any:
        try:
            return await super().next()
        except httpx2.ReadError as error:
            if "WebSocket chat" in str(error):
                raise
            self.ending, self.error = "failed", str(error)
            return None


class AgUi(NodePlayer):
    """An agent of AG-UI. A run is resumed by running it again, which replays it; our own API cancels it."""

    name: ClassVar[str] = "ag-ui"
    kind: ClassVar[str] = "agUi"

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self.turn = f"run-{id(self)}"
        self._thread = f"thread-{id(self)}"
        self._ending: Any = None
        self._shown: list[Any] = []
        content: Any = ask.prompt
        if ask.image is not None:
            media_type, _, data = ask.image.removeprefix("data:").partition(";base64,")
            source = {"type": "data", "value": data, "mimeType": media_type}
            content = [{"type": "text", "text": ask.prompt}, {"type": "image", "source": source}]
        self._messages: list[Any] = [{"id": "u1", "role": "user", "content": content}]

    def stranger(self, user: str, turn: str | None = None) -> AgUi:
        made = super().stranger(user, turn)
        made._thread = turn or self._thread
        made._messages = []  # with messages, it would be a run of its own
        return made

    async def start(self, url: str) -> None:
        tools = [{"name": TOOL, "description": "Add", "parameters": SCHEMA}] if self.ask.has_tool else []
        fields = {"thread": self._thread, "run": self.turn}
        props = {"model": self.ask.model}
        await self.open("start", url, fields, messages=self._messages, tools=tools, props=props)

    async def reply(self, url: str, result: str) -> None:
        answer = next(message for message in reversed(self._shown) if message["role"] == "assistant")
        (call,) = answer["toolCalls"]
        tool = {"id": "t1", "role": "tool", "toolCallId": call["id"], "content": result}
        self._messages = [*self._shown, tool]
        self.turn = f"{self.turn}-2"
        self.forget()
        await self.start(url)

    async def resume(self, url: str) -> None:
        await self.start(url)

    async def cancel(self, url: str) -> str:
        response = await self.stage.http.post(f"{url}/v1/turns/{self.turn}/cancel", headers=self.headers)
        if response.status_code >= 400:
            raise Refused(response.status_code, response.text)
        return response.text

    def take(self, event: Any) -> None:
        kind = event["type"]
        if kind == "RUN_STARTED":
            self.text, self.thoughts, self.calls = "", "", []
        elif kind == "TEXT_MESSAGE_CONTENT":
            self.text += event["delta"]
        elif kind == "REASONING_MESSAGE_CONTENT":
            self.thoughts += event["delta"]
        elif kind == "TOOL_CALL_START":
            self.calls.append((event["toolCallName"], ""))
        elif kind == "TOOL_CALL_ARGS":
            name, arguments = self.calls.pop()
            self.calls.append((name, arguments + event["delta"]))
        elif kind == "RUN_FINISHED":
            self._ending = "cancelled" if event["outcome"]["type"] == "cancelled" else "completed"
        elif kind == "RUN_ERROR":
            self._ending, self.error = "failed", event["message"]

    def end(self, line: dict[str, Any]) -> None:
        self._shown = line["messages"]
        content = [message.get("content") for message in line["messages"] if message["role"] == "assistant"]
        assert ((content[-1] or "") if content else "") == self.text, "the agent's message isn't what the events said"
        self.ending = self._ending
