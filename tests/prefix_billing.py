"""A local provider that bills by prefix: it keeps the beginnings of earlier prompts and charges less for them.

It follows the documented rules of Anthropic's and OpenAI's prompt caches, and counts four bytes of JSON as a token. Its
answers to a user's text call two tools if the request has tools; its answers to tool results are text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

from tests.upstream import ReceivedRequest, Script, Upstream, chat, error_response, sse

LOOKBACK = 20
BREAKPOINTS_MAX = 4
MINIMUM_TOKENS = 1024
STEP_TOKENS = 128
"""OpenAI's cache holds whole steps of this many tokens."""


class BillingUpstream(Upstream):
    """The provider. `calls` is the number of tool calls in an answer.

    `bills` has one dict for each answer: how many tokens of the prompt were `read` from the cache, `written` to it, and
    processed without it (`new`).
    """

    def __init__(self, calls: int = 2) -> None:
        super().__init__()
        self.bills: list[dict[str, int]] = []
        self._calls = calls
        self._prefixes: set[str] = set()
        self._prompts: list[str] = []

    def _script(self, received: ReceivedRequest) -> Script:
        self.requests.append(received)
        body = received.body
        if received.path.endswith("/chat/completions"):
            return self._answer_chat(body)
        if (fault := _fault(received.path, body)) is not None:
            return error_response(400, {"type": "error", "error": {"type": "invalid_request_error", "message": fault}})
        return self._answer_messages(body)

    def _answer_messages(self, body: dict[str, Any]) -> Script:
        read, written, rest = self._bill_breakpoints(body)
        self.bills.append({"read": read, "written": written, "new": rest})
        usage = {"input_tokens": rest, "cache_read_input_tokens": read, "cache_creation_input_tokens": written}
        number = len(self.bills)
        last = body["messages"][-1]["content"][-1]["type"]
        blocks: list[dict[str, Any]] = [{"type": "text", "text": f"Answer {number}. " + "word " * 40}]
        if body.get("tools") and last == "text":
            names = [tool["name"] for tool in body["tools"]]
            blocks = [
                {"type": "tool_use", "id": f"toolu_{number}_{n}", "name": names[n % len(names)], "input": {"n": n}}
                for n in range(self._calls)
            ]
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {"id": f"msg_{number}", "usage": usage | {"output_tokens": 1}}}
        ]
        for index, block in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.append({"type": "content_block_stop", "index": index})
        stop = "end_turn" if blocks[0]["type"] == "text" else "tool_use"
        events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 50}})
        events.append({"type": "message_stop"})
        return Script(tuple(sse(event, event["type"]) for event in events))

    def _bill_breakpoints(self, body: dict[str, Any]) -> tuple[int, int, int]:
        """Return how many tokens of the prompt were read from the cache, written to it, and processed without it."""
        blocks = list(_blocks(body))
        texts = [
            json.dumps({name: value for name, value in block.items() if name != "cache_control"}) for block in blocks
        ]
        prefixes = [str(body.get("model")) + text for text in accumulate(texts)]
        tokens = [len(prefix) // 4 for prefix in prefixes]
        marked = [number for number, block in enumerate(blocks) if "cache_control" in block]
        if "cache_control" in body:
            marked.append(len(blocks) - 1)
        read = 0
        for at in marked:
            near = range(max(0, at - LOOKBACK + 1), at + 1)
            read = max([read, *(tokens[number] for number in near if prefixes[number] in self._prefixes)])
        kept = [number for number in marked if tokens[number] >= MINIMUM_TOKENS]
        self._prefixes |= {prefixes[number] for number in kept}
        whole = max((tokens[number] for number in kept), default=0)
        return read, max(0, whole - read), tokens[-1] - max(whole, read)

    def _answer_chat(self, body: dict[str, Any]) -> Script:
        prompt = body["model"] + json.dumps(body.get("tools")) + json.dumps(body["messages"]).removesuffix("]")
        common = max((_measure_prefix(prompt, earlier) for earlier in self._prompts), default=0) // 4
        read = common // STEP_TOKENS * STEP_TOKENS if common >= MINIMUM_TOKENS else 0
        self._prompts.append(prompt)
        whole = len(prompt) // 4
        self.bills.append({"read": read, "written": 0, "new": whole - read})
        usage = {"prompt_tokens": whole, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": read}}
        number = len(self.bills)
        if not body.get("tools") or body["messages"][-1]["role"] == "tool":
            return chat(f"Answer {number}. " + "word " * 40, usage=usage)
        names = [tool["function"]["name"] for tool in body["tools"]]
        calls = [
            {
                "index": n,
                "id": f"call_{number}_{n}",
                "type": "function",
                "function": {"name": names[n % len(names)], "arguments": json.dumps({"n": n})},
            }
            for n in range(self._calls)
        ]
        return chat({"tool_calls": calls}, finish="tool_calls", usage=usage)

    def total(self, kind: str) -> int:
        """Return the tokens of this kind in all bills."""
        return sum(bill[kind] for bill in self.bills)


def _blocks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the prompt's blocks in the order of the cache: tools, system prompt, messages."""
    yield from body.get("tools", ())
    system = body.get("system", [])
    yield from [{"type": "text", "text": system}] if isinstance(system, str) else system
    for message in body["messages"]:
        for block in message["content"]:
            yield block | {"role": message["role"]}


def _fault(path: str, body: dict[str, Any]) -> str | None:
    """Return the error message for a request that the API refuses, or None."""
    marked = [block for block in _blocks(body) if "cache_control" in block]
    if "cache_control" in body and not path.endswith("/v1/messages"):
        return "cache_control: Extra inputs are not permitted"
    if len(marked) + ("cache_control" in body) > BREAKPOINTS_MAX:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {len(marked)}."
    if any(block.get("type") in ("thinking", "redacted_thinking") for block in marked):
        return "messages.0.content.0.thinking.cache_control: Extra inputs are not permitted"
    if any(block.get("type") == "text" and not block["text"].strip() for block in marked):
        return "cache_control cannot be set for empty text blocks"
    if any(one["role"] == other["role"] == "assistant" for one, other in pairwise(body["messages"])):
        return "roles must alternate"
    return None


def _measure_prefix(one: str, other: str) -> int:
    """Return the length of the common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
