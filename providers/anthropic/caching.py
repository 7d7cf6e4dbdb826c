"""The cache breakpoints in a request to the Messages API. Without them, each turn pays in full for the whole history.

The provider keeps the prompt up to each breakpoint. A later request that begins in the same way reads that part at a
lower price. Breakpoints in prompts below the model's minimum length have no effect. This module does no I/O.
"""

from __future__ import annotations

from typing import Any, Final

from providers.quirks import PromptCache

CONTROL: Final = {"type": "ephemeral"}
LOOKBACK_BLOCKS: Final = 15
"""How many blocks may follow the previous request without another breakpoint. The API searches about 20 blocks back."""
_UNCACHEABLE: Final = ("thinking", "redacted_thinking")


def add_breakpoints(body: dict[str, Any], style: PromptCache) -> None:
    """Add at most four breakpoints, the API's limit, to `body`, a request body whose messages are complete.

    Those after the tools and after the system prompt serve other conversations too. The one at the end of the user's
    last message serves the next turn. It is never in an answer that the model has to continue. With `style` "request",
    the API places it: the messages then stay the same from turn to turn. If many blocks follow the user's
    second-to-last message, that message gets a breakpoint too, so that the API finds the prompt that is cached up to
    there. With an empty `style`, do nothing.
    """
    if not style:
        return
    if body.get("tools"):
        body["tools"][-1]["cache_control"] = CONTROL
    system = body.get("system")
    if isinstance(system, str) and system.strip():
        body["system"] = [{"type": "text", "text": system, "cache_control": CONTROL}]
    messages = body["messages"]
    inputs = [number for number, message in enumerate(messages) if message["role"] == "user"]
    if not inputs:
        return
    if len(inputs) > 1 and _count_blocks(messages[inputs[-2] + 1 :]) > LOOKBACK_BLOCKS:
        _mark(messages[inputs[-2]])
    if style == "request" and inputs[-1] == len(messages) - 1:
        body["cache_control"] = CONTROL
    else:
        _mark(messages[inputs[-1]])


def _count_blocks(messages: list[dict[str, Any]]) -> int:
    return sum(len(message["content"]) for message in messages)


def _mark(message: dict[str, Any]) -> None:
    """Add a breakpoint after the last block of `message` that can have one."""
    for block in reversed(message["content"]):
        if block["type"] not in _UNCACHEABLE:
            block["cache_control"] = CONTROL
            return
