"""The rules of the Messages API for thinking between a tool call and the answer. This module does no I/O.

They hold for the messages of the assistant whose calls are being answered: those after the last message of the user
without a tool result.
"""

from __future__ import annotations

from typing import Any, Final

from providers.route import Quirks

THOUGHTS: Final = ("thinking", "redacted_thinking")


def fit_thinking(body: dict[str, Any], quirks: Quirks) -> None:
    """Make the thinking of `body`, a request body with its messages, agree with the calls that are being answered.

    With a thinking budget, the answer has to have begun with a thought. It has none if another model made the calls,
    or if this one made them without thinking: then thinking is turned off. Without thinking, the API refuses thoughts
    there: they are left out.
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
    """Return the messages of the assistant whose calls the last message answers, oldest first. Empty if it has none."""
    found: list[dict[str, Any]] = []
    for message in reversed(messages):
        if message["role"] == "assistant":
            found.append(message)
        elif all(block["type"] != "tool_result" for block in message["content"]):
            break
    found.reverse()
    return found if messages and messages[-1]["role"] == "user" else []
