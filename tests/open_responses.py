"""The rules of the Open Responses specification (2026-04-24) for responses and their events, as types to convert to.

They have the fields that the specification requires, present and of the right type. Other fields are allowed.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str
    annotations: list[UrlCitation]


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    text: str


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    text: str


class Refusal(Struct, tag_field="type", tag="refusal"):
    refusal: str


Content = InputText | OutputText | SummaryText | ReasoningText | Refusal
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class UrlCitation(Struct, tag_field="type", tag="url_citation"):
    url: str
    start_index: int
    end_index: int
    title: str


class Message(Struct, tag_field="type", tag="message"):
    id: str
    status: ItemStatus
    role: Literal["user", "assistant", "system", "developer"]
    content: list[Content]


class FunctionCall(Struct, tag_field="type", tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class FunctionCallOutput(Struct, tag_field="type", tag="function_call_output"):
    id: str
    call_id: str
    output: str
    status: ItemStatus


class Reasoning(Struct, tag_field="type", tag="reasoning"):
    id: str
    summary: list[Content]
    encrypted_content: str = ""


class Image(Struct, tag_field="type", tag="image_generation_call"):
    """An item of OpenAI's, which the specification doesn't have."""

    id: str
    status: ItemStatus
    result: str


Item = Message | FunctionCall | FunctionCallOutput | Reasoning | Image


class FunctionTool(Struct, tag_field="type", tag="function"):
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class NamedChoice(Struct, tag_field="type", tag="function"):
    name: str


class AllowedChoice(Struct, tag_field="type", tag="allowed_tools"):
    tools: list[NamedChoice]
    mode: Literal["none", "auto", "required"]


class Format(Struct):
    type: Literal["text", "json_object", "json_schema"]


class TextSettings(Struct):
    format: Format


class ReasoningSettings(Struct):
    effort: Literal["none", "low", "medium", "high", "xhigh"] | None
    summary: Literal["concise", "detailed", "auto"] | None


class Reason(Struct):
    reason: str


class Error(Struct):
    code: str
    message: str


class Cached(Struct):
    cached_tokens: int


class Reasoned(Struct):
    reasoning_tokens: int


class UsageSums(Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: Cached
    output_tokens_details: Reasoned


class Response(Struct, kw_only=True):
    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: str
    incomplete_details: Reason | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[Item]
    error: Error | None
    tools: list[FunctionTool]
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | AllowedChoice
    truncation: Literal["auto", "disabled"]
    parallel_tool_calls: bool
    text: TextSettings
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: ReasoningSettings | None
    usage: UsageSums | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: str
    metadata: dict[str, Any]
    safety_identifier: str | None
    prompt_cache_key: str | None


class Event(Struct, kw_only=True):
    sequence_number: int


class WithResponse(Event, kw_only=True):
    response: Response


class WithItem(Event, kw_only=True):
    output_index: int
    item: Item


class InItem(Event, kw_only=True):
    item_id: str
    output_index: int


class InContent(InItem, kw_only=True):
    content_index: int


class InSummary(InItem, kw_only=True):
    summary_index: int


class ContentPart(InContent, kw_only=True):
    part: Content


class ContentDelta(InContent, kw_only=True):
    delta: str


class TextDone(InContent, kw_only=True):
    text: str


class RefusalDone(InContent, kw_only=True):
    refusal: str


class SummaryPart(InSummary, kw_only=True):
    part: SummaryText


class SummaryDelta(InSummary, kw_only=True):
    delta: str


class SummaryDone(InSummary, kw_only=True):
    text: str


class ArgumentsDelta(InItem, kw_only=True):
    delta: str


class ArgumentsDone(InItem, kw_only=True):
    arguments: str


class Annotated(InContent, kw_only=True):
    annotation_index: int
    annotation: UrlCitation | None


class ErrorPayload(Struct):
    type: str
    code: str | None
    message: str
    param: str | None


class ErrorEvent(Event, kw_only=True):
    error: ErrorPayload


class SocketError(Struct):
    type: Literal["error"]
    status: int
    error: Error


EVENTS: dict[str, type[Struct]] = {
    **{
        f"response.{name}": WithResponse
        for name in ("created", "queued", "in_progress", "completed", "failed", "incomplete")
    },
    "response.output_item.added": WithItem,
    "response.output_item.done": WithItem,
    "response.content_part.added": ContentPart,
    "response.content_part.done": ContentPart,
    "response.output_text.delta": ContentDelta,
    "response.output_text.done": TextDone,
    "response.output_text.annotation.added": Annotated,
    "response.refusal.delta": ContentDelta,
    "response.refusal.done": RefusalDone,
    "response.reasoning_summary_part.added": SummaryPart,
    "response.reasoning_summary_part.done": SummaryPart,
    "response.reasoning_summary_text.delta": SummaryDelta,
    "response.reasoning_summary_text.done": SummaryDone,
    "response.function_call_arguments.delta": ArgumentsDelta,
    "response.function_call_arguments.done": ArgumentsDone,
    "error": ErrorEvent,
}


def check_response(response: dict[str, Any]) -> Response:
    """Check a response, and return it. Raises `msgspec.ValidationError`."""
    return msgspec.convert(response, Response)


def check_event(event: dict[str, Any]) -> None:
    """Check an event of a stream. Raises `msgspec.ValidationError`, and `KeyError` for an event that doesn't exist."""
    msgspec.convert(event, EVENTS[event["type"]])


def check_socket_error(event: dict[str, Any]) -> None:
    """Check an error on a socket. Raises `msgspec.ValidationError`."""
    msgspec.convert(event, SocketError)
