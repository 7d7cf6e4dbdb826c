"""An upstream that has a script for each prompt, so that the clients of all dialects can share it at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.upstream import ReceivedRequest, Script, Upstream, chat

MODEL = "kimi/some-model"
"""A model that continues the start of an answer."""
MODEL_WITHOUT_PREFILL = "openai/some-model"
TOOL = "add"


@dataclass(eq=False)
class Talk:
    """What the upstream says to one prompt.

    `cuts` has, for each of the first requests, the number of pieces after which its answer is cut off. The first
    `refusals` requests are answered with `refusal` instead. `gate` is acquired before each block.
    """

    words: tuple[str, ...] = ()
    thoughts: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    """The pieces of the arguments of a call of `TOOL`."""
    cuts: list[int] = field(default_factory=list)
    refusal: Script | None = None
    refusals: int = 1_000_000
    gate: asyncio.Semaphore | None = None
    words_after: tuple[str, ...] = ()
    """The answer to the result of the call."""
    requests: list[ReceivedRequest] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.words)

    @property
    def thought(self) -> str:
        """The whole reasoning."""
        return "".join(self.thoughts)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The name and the arguments of each call."""
        return [(TOOL, "".join(self.arguments))] if self.arguments else []

    def script(self, received: ReceivedRequest) -> Script:
        """Return the answer to the next request; if it has the start of the answer, the rest."""
        self.requests.append(received)
        if self.refusal is not None and len(self.requests) <= self.refusals:
            return self.refusal
        if received.body["messages"][-1]["role"] == "tool":
            return chat(*self.words_after)
        script = chat(*self._deltas(received.body["messages"]), finish="tool_calls" if self.arguments else "stop")
        if self.cuts:
            script = Script(script.blocks[: self.cuts.pop(0)])
            script = script.replace(cut=sum(map(len, script.blocks)))
        return script.replace(gate=self.gate)

    def _deltas(self, messages: list[dict[str, Any]]) -> list[dict[str, Any] | str]:
        if messages[-1].get("partial"):
            start = messages[-1]["content"]
            assert self.text.startswith(start), f"{start!r} isn't the start of {self.text!r}"
            rest, left = [], len(start)
            for word in self.words:
                rest.append(word[left:])
                left = max(0, left - len(word))
            return [word for word in rest if word]
        function = {
            "index": 0,
            "id": "functions.add:0",
            "type": "function",
            "function": {"name": TOOL, "arguments": ""},
        }
        more = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in self.arguments]
        return [
            *({"reasoning_content": thought} for thought in self.thoughts),
            *self.words,
            *([{"tool_calls": [function]}, *more] if self.arguments else []),
        ]


class TalkingUpstream(Upstream):
    """An upstream that answers each prompt in `talks` with its script."""

    def __init__(self) -> None:
        super().__init__()
        self.talks: dict[str, Talk] = {}

    def _script(self, received: ReceivedRequest) -> Script:
        talk = self.talks.get(_prompt(received.body))
        other = super()._script(received)
        return other if talk is None else talk.script(received)


def _prompt(body: dict[str, Any]) -> str:
    """Return the text of the last message of the user."""
    asked = [message["content"] for message in body.get("messages", ()) if message["role"] == "user"]
    last = asked[-1] if asked else ""
    return last if isinstance(last, str) else "".join(part.get("text", "") for part in last)
