"""Notes about a turn in the chat: its progress, its ending, and its tokens, cost and time."""

from __future__ import annotations

from turnwire.client import (
    Cost,
    Timing,
    TurnCancelled,
    TurnCompleted,
    TurnStatus,
    Usage,
)

_CUT = {
    "length": "The answer was cut off, because it reached the limit of its length.",
    "content_filter": "The provider's filter has cut off the answer.",
    "tool_calls": "The model waits for the results of its tools, which this chat doesn't run.",
}


def status_note(event: TurnStatus) -> str:
    """Return the sentence about the progress of a turn; empty if the user needn't know."""
    match event.status:
        case "queued":
            return f"Waiting for your other turns (position {event.position})."
        case "waiting":
            return "The provider has sent nothing yet. Ctrl-C stops the turn."
        case "retrying":
            return f"The provider failed. Attempt {event.attempt} follows in {(event.delay_ms or 0) / 1000:.3g} s."
        case "fallback":
            return f"The model {event.model} is asked instead."
        case "continued":
            return f"The answer broke off. {event.model} continues it."
        case "trimmed":
            return f"The conversation is too long for the model: the oldest {event.messages} messages were left out."
        case _:
            return ""


def ending_note(event: TurnCompleted | TurnCancelled) -> str:
    """Return the sentences about an ending: how it ended if it isn't complete, its tokens, its cost and its time."""
    sentence = ""
    if isinstance(event, TurnCancelled):
        sentence = "Stopped." if event.by == "client" else f"Stopped by the gateway ({event.by})."
    else:
        sentence = _CUT.get(event.finish_reason or "", "")
    return " ".join(filter(None, (sentence, figures(event.usage, event.cost, event.timing))))


def figures(usage: Usage | None, cost: Cost | None, timing: Timing | None = None) -> str:
    """Return tokens, cost and seconds in one line; empty if none of them is known."""
    found = []
    if usage is not None:
        about = "About " if usage.estimated else ""
        found.append(f"{about}{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out")
    if cost is not None:
        found.append(money(cost))
    if timing is not None:
        found.append(f"{timing.total_ms / 1000:.1f} s")
    return " · ".join(found)


def money(cost: Cost) -> str:
    """Return an amount with its currency, without the zeros at its end."""
    amount = cost.amount.rstrip("0").rstrip(".") if "." in cost.amount else cost.amount
    return f"${amount or '0'}" if cost.currency == "USD" else f"{amount or '0'} {cost.currency}"
