"""Estimate the tokens of a request and of an answer by their size."""

from __future__ import annotations

import msgspec

from providers.base import ChatRequest, ImagePart, Part, ReasoningPart, TextPart, Usage

IMAGE_TOKENS = 1600
MESSAGE_TOKENS = 8


def estimate_tokens(parts: list[Part] | tuple[Part, ...]) -> int:
    """Estimate the tokens of the text, tool arguments and tool results in `parts`, at four bytes per token.

    Images and files aren't counted.
    """
    size = 0
    for part in parts:
        for name in ("text", "arguments", "output"):
            text = getattr(part, name, None) or ""
            size += len(text) if text.isascii() else len(text.encode())
    return (size + 3) // 4


def estimate_usage(chat_request: ChatRequest, answer_parts: list[Part]) -> Usage:
    """Estimate the token usage of a request of which the provider didn't report every count.

    `answer_parts` are the parts of the answer.
    """
    request_parts = [
        *(part for message in chat_request.messages for part in message.parts),
        TextPart(chat_request.system or ""),
        *_tools_as_text(chat_request),
    ]
    if chat_request.response_handle is None:
        request_parts += chat_request.partial_answer
    images = sum(IMAGE_TOKENS for part in request_parts if isinstance(part, ImagePart))
    reasoning: list[Part] = [part for part in answer_parts if isinstance(part, ReasoningPart)]
    return Usage(
        estimate_tokens(request_parts) + images,
        estimate_tokens(answer_parts),
        reasoning_tokens=estimate_tokens(reasoning) if reasoning else None,
        estimated=True,
    )


def _tools_as_text(chat_request: ChatRequest) -> list[Part]:
    return [TextPart(msgspec.json.encode(chat_request.tools).decode())] if chat_request.tools else []


def request_tokens(chat_request: ChatRequest) -> int:
    """Return an upper estimate of the tokens of the request, without its partial answer."""
    return fixed_tokens(chat_request) + sum(message_tokens(message.parts) for message in chat_request.messages)


def fixed_tokens(chat_request: ChatRequest) -> int:
    """Return an upper estimate of the tokens of what is never trimmed: the system prompt and the tools."""
    return message_tokens([TextPart(chat_request.system or ""), *_tools_as_text(chat_request)])


def message_tokens(parts: list[Part] | tuple[Part, ...]) -> int:
    """Return an upper estimate of the tokens of one message with these `parts`.

    It is a token for three bytes, plus `MESSAGE_TOKENS`, plus `IMAGE_TOKENS` for each image of any size. Files
    aren't counted.
    """
    images = sum(IMAGE_TOKENS for part in parts if isinstance(part, ImagePart))
    return estimate_tokens(parts) * 4 // 3 + MESSAGE_TOKENS + images
