"""Tool calls as a provider takes them: each with its result, a legal name, and arguments that are a JSON object."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import structs

from providers.base import ChatMessage, Part, ToolCallPart, ToolResultPart
from providers.fit.ids import digest

Place = tuple[int, int]
"""The number of a message in its context, and of a part in the message."""

BROKEN_CHARS_MAX: Final = 4000
"""The maximum number of characters of broken arguments that are sent back."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_NAME_KEPT: Final = 50


def match_results(messages: Sequence[ChatMessage]) -> dict[Place, Place]:
    """Return a map from the place of each tool call that has a result to the place of the result.

    A result belongs to the call with its id in the last answer before it, and only other results may be between them.
    If a call has several results, the last one is valid: the others were sent to turns that failed. If an answer has
    several calls with one id, their results have the same order.
    """
    matched: dict[Place, Place] = {}
    calls: dict[str, list[Place]] = {}
    results: dict[str, list[Place]] = {}

    def close() -> None:
        for call, places in results.items():
            found = places[-len(calls[call]) :]
            matched.update(zip(calls[call], found, strict=False))
        calls.clear()
        results.clear()

    for number, message in enumerate(messages):
        if message.role == "assistant" and message.parts:
            close()
            for index, part in enumerate(message.parts):
                if isinstance(part, ToolCallPart):
                    calls.setdefault(part.call, []).append((number, index))
        others = False
        for index, part in enumerate(message.parts):
            if not isinstance(part, ToolResultPart):
                others = True
            elif part.call in calls:
                results.setdefault(part.call, []).append((number, index))
        if others and message.role != "assistant":
            close()
    close()
    return matched


def drop_unanswered(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Drop tool calls without a result, results without a call, and messages that are empty after that.

    Every provider refuses a conversation that continues without the results of a call. See `match_results`.
    """
    matched = match_results(messages)
    kept_places = {*matched, *matched.values()}
    kept: list[ChatMessage] = []
    for number, message in enumerate(messages):
        parts: tuple[Part, ...] = tuple(
            part
            for index, part in enumerate(message.parts)
            if not isinstance(part, ToolCallPart | ToolResultPart) or (number, index) in kept_places
        )
        if parts:
            kept.append(message if len(parts) == len(message.parts) else structs.replace(message, parts=parts))
    return tuple(kept)


def legal_name(name: str) -> str:
    """Return the name of a tool as it may be sent back: 1 to 64 of `A-Za-z0-9_-`.

    A name that a model invented may be empty, too long or have other characters. Then the legal name ends with a digest
    of the whole name, so that it isn't that of another tool.
    """
    if _NAME.fullmatch(name):
        return name
    return f"{_NAME_UNSAFE.sub('_', name[:_NAME_KEPT]).lstrip('-0123456789') or 'tool'}_{digest(name, 8)}"


def object_arguments(arguments: str) -> str:
    """Return the arguments of a call as the JSON text of an object, which every dialect needs.

    A JSON string that holds the text of an object is decoded. No arguments, or null, become an empty object. Of
    anything else, such as arguments that broke off, the first `BROKEN_CHARS_MAX` characters become the field
    `arguments` of an object, so that the model sees what it wrote.
    """
    value = _decode(arguments)
    if isinstance(value, dict):
        return arguments
    if isinstance(value, str) and isinstance(_decode(value), dict):
        return value
    if value is None and arguments.strip() in ("", "null"):
        return "{}"
    broken = arguments if len(arguments) <= BROKEN_CHARS_MAX else arguments[:BROKEN_CHARS_MAX] + "…"
    return json.dumps({"arguments": broken})


def _finite(text: str) -> float:
    """Return the number that `text` stands for. Raise `ValueError` if it is infinite, which JSON can't express."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


_decoder: Final = msgspec.json.Decoder(float_hook=_finite)


def _decode(text: str) -> object:
    """Return the value of a JSON text, or None if it isn't valid. It has no infinite numbers or lone surrogates."""
    try:
        return _decoder.decode(text)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
