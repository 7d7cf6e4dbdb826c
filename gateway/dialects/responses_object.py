"""The objects of OpenAI Responses: a response with its output items, from a turn or while it is streamed."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, UnsetType

from gateway.dialects.base import Shaped, encode_json
from gateway.dialects.openai_errors import error_object
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import CancelledBy
from gateway.protocol.ids import from_rfc3339
from gateway.protocol.results import TurnView
from providers.base import (
    CitationPart,
    FinishReason,
    ImagePart,
    Part,
    PartKind,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    Usage,
)

Object = dict[str, Any]

TURN_PREFIX: Final = "resp_"
ITEM_PREFIXES: Final = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_", "image_generation_call": "ig_"}
ITEM_TYPES: Final[dict[PartKind, str]] = {
    "text": "message",
    "refusal": "message",
    "citation": "message",
    "reasoning": "reasoning",
    "tool_call": "function_call",
    "image": "image_generation_call",
}
"""The type of the item that shows a part. Other parts aren't shown."""
DEFAULTS: Final[Object] = {
    "background": False,
    "conversation": None,
    "frequency_penalty": 0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1,
    "truncation": "disabled",
    "user": None,
}
"""The fields of a response that repeat the request, with the values that an absent field has."""


def response_object(
    turn: str,
    model: str,
    created: int,
    settings: Object,
    *,
    status: str,
    output: list[Object],
    completed: int | None = None,
    error: ErrorBody | None = None,
    incomplete: str | None = None,
    usage: Usage | None = None,
) -> Object:
    """Return a response. `settings` are the request's values of the fields in `DEFAULTS`.

    `created` and `completed` are in seconds since 1970.
    """
    return {
        "id": turn,
        "object": "response",
        "created_at": created,
        "completed_at": completed,
        "status": status,
        "error": None if error is None else failure_object(error),
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "model": model,
        "output": output,
        "usage": None if usage is None else usage_object(usage),
        **DEFAULTS,
        **settings,
    }


def failure_object(error: ErrorBody) -> Object:
    """Return the `error` of a failed response. It has the codes that OpenAI has for failures of the server."""
    found = error_object(error)
    code = "rate_limit_exceeded" if error.code == "upstream_rate_limited" else found["code"]
    return {
        "code": "server_error" if found["type"] == "server_error" and code == error.code else code,
        "message": found["message"],
    }


def usage_object(usage: Usage) -> Object:
    """Return usage in the shape of Responses."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def outcome(
    reason: FinishReason | UnsetType | None = None, by: CancelledBy | None = None, *, failed: bool = False
) -> tuple[str, str | None]:
    """Return the status of an ended response, and why it is incomplete if it is. `failed`: it ended with an error."""
    if failed:
        return "failed", None
    if by is not None:
        return ("incomplete", "max_output_tokens") if by == "limit" else ("cancelled", None)
    if reason == "length":
        return "incomplete", "max_output_tokens"
    return ("incomplete", "content_filter") if reason == "content_filter" else ("completed", None)


def item_id(turn: str, kind: str, index: int) -> str:
    """Return the id of output item number `index`, which is the same in each stream of the turn."""
    return f"{ITEM_PREFIXES[kind]}{turn.removeprefix(TURN_PREFIX)}_{index}"


def text_content(text: str, annotations: list[Object]) -> Object:
    """Return a text of a message."""
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def refusal_content(text: str) -> Object:
    """Return a refusal in a message."""
    return {"type": "refusal", "refusal": text}


def annotation_object(url: str, title: str | None, end: int) -> Object:
    """Return the citation of a page, for the text before `end`."""
    return {"type": "url_citation", "url": url, "title": title or url, "start_index": end, "end_index": end}


def message_item(item: str, content: list[Object], status: str) -> Object:
    """Return a message of the assistant."""
    return {"id": item, "type": "message", "role": "assistant", "status": status, "content": content}


def call_item(item: str, call: str, name: str, arguments: str, status: str) -> Object:
    """Return a call of a function."""
    return {
        "id": item,
        "type": "function_call",
        "call_id": call,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def reasoning_item(item: str, text: str, signature: str | None) -> Object:
    """Return reasoning. Its `signature` is what the provider needs to get it back."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    found: Object = {"id": item, "type": "reasoning", "summary": summary}
    return found if signature is None else {**found, "encrypted_content": signature}


def image_item(item: str, media_type: str | None, data: str | None, url: str | None) -> Object:
    """Return an image: its `data` as base64 if it is short, else the `url` from which it can be read."""
    found: Object = {"id": item, "type": "image_generation_call", "status": "completed", "result": data or ""}
    if media_type is not None and "*" not in media_type:
        found["output_format"] = media_type.removeprefix("image/")
    return found if url is None else {**found, "url": url}


def output_items(turn: str, parts: list[Part], status: str, *, one_call: bool = False) -> list[Object]:
    """Return the output items for the parts of an answer. `status`: of the last item, if it isn't reasoning.

    With `one_call`, only the first call of a function is shown.
    """
    items: list[Object] = []
    for part in parts:
        if isinstance(part, ReasoningPart):
            name = item_id(turn, "reasoning", len(items))
            items.append(reasoning_item(name, part.text, part.signature))
        elif isinstance(part, ToolCallPart):
            if one_call and any(item["type"] == "function_call" for item in items):
                continue
            name = item_id(turn, "function_call", len(items))
            items.append(call_item(name, part.call, part.name, part.arguments, "completed"))
        elif isinstance(part, ImagePart):
            name = item_id(turn, "image_generation_call", len(items))
            items.append(image_item(name, part.media_type, part.data, part.url))
        elif isinstance(part, TextPart | RefusalPart | CitationPart):
            _add_to_message(turn, items, part)
    if items and items[-1]["type"] in {"message", "function_call"}:
        items[-1]["status"] = status
    return items


def _add_to_message(turn: str, items: list[Object], part: TextPart | RefusalPart | CitationPart) -> None:
    if isinstance(part, CitationPart):
        content = items[-1]["content"][-1] if items and items[-1]["type"] == "message" else None
        if part.url is not None and content is not None and content["type"] == "output_text":
            content["annotations"].append(annotation_object(part.url, part.title, len(content["text"])))
        return
    if not items or items[-1]["type"] != "message":
        items.append(message_item(item_id(turn, "message", len(items)), [], "completed"))
    is_text = isinstance(part, TextPart)
    items[-1]["content"].append(text_content(part.text, []) if is_text else refusal_content(part.text))


def item_status(status: str) -> str:
    """Return the status of the last item of a response with this status."""
    if status in {"completed", "in_progress"}:
        return status
    return "in_progress" if status == "queued" else "incomplete"


def created_ms_of(view: TurnView) -> int:
    """Return when the turn was accepted, in ms since 1970. This is also the first epoch of its stream.

    If only the message of the turn is left, it is the time of the message, which was made at the turn's end, minus the
    turn's duration.
    """
    if view.epoch or view.message is UNSET:
        return view.epoch
    total_ms = 0 if view.timing is UNSET else view.timing.total_ms
    return from_rfc3339(view.message.created_at) - total_ms


def object_of(view: TurnView, settings: Object) -> Object:
    """Return the response for a turn that runs or has ended."""
    message = None if view.message is UNSET else view.message
    created_ms = created_ms_of(view)
    error = None if view.error is UNSET else view.error
    if view.status in {"queued", "running"}:
        status, incomplete = ("queued" if view.status == "queued" else "in_progress"), None
    else:
        by = (message.by if message is not None else None) or ("client" if view.status == "cancelled" else None)
        status, incomplete = outcome(view.finish_reason, by, failed=view.status == "failed")
    total_ms = None if view.timing is UNSET else view.timing.total_ms
    return response_object(
        view.turn,
        view.model,
        created_ms // 1000,
        {"store": view.conversation is not None, **settings},
        status=status,
        output=output_items(
            view.turn,
            [] if message is None else message.parts,
            item_status(status),
            one_call=settings.get("parallel_tool_calls") is False,
        ),
        completed=None if status != "completed" or total_ms is None else (created_ms + total_ms) // 1000,
        error=error,
        incomplete=incomplete,
        usage=None if view.usage is UNSET else view.usage,
    )


def shaped(view: TurnView, settings: Object) -> Shaped:
    """Return a response as a body."""
    return Shaped(200, encode_json(object_of(view, settings)))
