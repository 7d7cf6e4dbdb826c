"""The thinking of a request to the Messages API: its fields, and the rules for an open answer. This module does no I/O.

An answer is open if the request has the results of its calls at the end. It consists of all messages of the assistant
after the last message of the user without a tool result.
"""

from __future__ import annotations

from typing import Any, Final

from providers.base import Effort
from providers.quirks import Quirks

THOUGHTS: Final = ("thinking", "redacted_thinking")
_BUDGETS: Final = {"low": 2_048, "medium": 8_192, "high": 16_384, "max": 31_000}
_BUDGET_MIN: Final = 1_024


def thinking_fields(effort: Effort | None, quirks: Quirks, max_tokens: int) -> dict[str, Any]:
    """Return the fields of a request body for `params.reasoning`. A thinking budget leaves some of `max_tokens` to the text."""
    if quirks.reasoning == "adaptive":
        if effort == "none":
            off = quirks.thinking_off
            return {"thinking": {"type": off}} if off else {"output_config": {"effort": "low"}}
        adaptive = {"thinking": {"type": "adaptive", "display": "summarized"}}
        if effort is None:
            return adaptive if quirks.thinking_shown else {}
        return adaptive | {"output_config": {"effort": quirks.efforts.get(effort, effort)}}
    if quirks.reasoning == "budget" and effort is not None:
        budget = min(_BUDGETS.get(effort, 0), max_tokens - _BUDGET_MIN)
        if budget >= _BUDGET_MIN:
            return {"thinking": {"type": "enabled", "budget_tokens": budget}}
        return {"thinking": {"type": "disabled"}}
    return {}


def fit_thinking(body: dict[str, Any], quirks: Quirks) -> None:
    """Make the thinking of `body`, a request body with its messages, agree with the open answer.

    With a thinking budget, the open answer has to begin with a thought. It doesn't if another model made the calls, or
    if this one made them without thinking: then thinking is turned off. If thinking is off, the API refuses thoughts in
    the open answer: they are left out.
    """
    answers = _open_answers(body["messages"])
    if not answers:
        return
    kind = body.get("thinking", {}).get("type")
    if kind == "enabled" and answers[0]["content"][0]["type"] not in THOUGHTS:
        body["thinking"] = {"type": "disabled"}
        kind = "disabled"
    if kind == "disabled" or (kind is None and quirks.reasoning == "budget"):
        for answer in answers:
            answer["content"] = [block for block in answer["content"] if block["type"] not in THOUGHTS]


def _open_answers(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of the open answer, oldest first. Empty if no answer is open."""
    found: list[dict[str, Any]] = []
    for message in reversed(messages):
        if message["role"] == "assistant":
            found.append(message)
        elif all(block["type"] != "tool_result" for block in message["content"]):
            break
    found.reverse()
    return found if messages and messages[-1]["role"] == "user" else []
