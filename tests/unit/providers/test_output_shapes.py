"""Thoughts, images and texts in shapes that fewer hosts use: each is added once, and never as another kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import PartDelta, PartStarted, PartsWithdrawn
from providers.http.stream import Decoder
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from tests.unit.providers.test_call_styles import FAILURES

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
URL = f"data:image/png;base64,{PNG}"
THOUGHT, ANSWER = "I think so, because of it all.", "Hello!"
BOTH = [("reasoning", THOUGHT), ("text", ANSWER)]
IMAGE = ("image", "")


def said(decoder: Decoder, events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the pairs (kind, text) of the parts. The batches are drained after each event, as in a slow stream."""
    parts: list[tuple[str, str]] = []
    for event in [*events, None]:
        if event is None:
            decoder.end()
        else:
            decoder.decode_event(None, json.dumps(event).encode())
        for delta in decoder.parts.drain():
            if isinstance(delta, PartsWithdrawn):
                parts.clear()
            elif isinstance(delta, PartStarted):
                parts.append((delta.kind, ""))
            elif isinstance(delta, PartDelta) and delta.text:
                kind, text = parts[delta.part]
                parts[delta.part] = (kind, text + delta.text)
    return parts


def chat(*deltas: dict[str, Any]) -> list[tuple[str, str]]:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 9}}
    return said(ChatDecoder(Quirks(think_tags=True), FAILURES), [*chunks, end])


def messages(*blocks: tuple[dict[str, Any], list[dict[str, Any]]]) -> list[tuple[str, str]]:
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"id": "m"}}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}})
    return said(MessagesDecoder(FAILURES, Quirks(think_tags=True)), [*events, {"type": "message_stop"}])


def responses(*events: dict[str, Any]) -> list[tuple[str, str]]:
    end = {"type": "response.completed", "response": {"status": "completed", "usage": {"output_tokens": 9}}}
    return said(ResponsesDecoder(Quirks(), FAILURES), [*events, end])


@pytest.mark.parametrize(
    "delta",
    [
        {"thoughts": THOUGHT},
        {"thought": THOUGHT},
        {"reasoning_summary": THOUGHT},
        {"reasoning_details": THOUGHT},
        {"reasoning_details": [THOUGHT]},
        {"content": [{"type": "text", "thought": True, "text": THOUGHT}]},
        {"content": [{"type": "thoughts", "text": THOUGHT}]},
        {"content": [{"type": "thinking_delta", "thinking": THOUGHT}]},
        {"content": [{"type": "reasoning_content", "reasoning_content": {"text": THOUGHT}}]},
        {"content": [{"type": "chain_of_thought", "text": THOUGHT}]},
    ],
)
def test_thoughts_in_chat(delta: dict[str, Any]) -> None:
    assert chat(delta, {"content": ANSWER}) == BOTH


@pytest.mark.parametrize(
    "content",
    [
        [None, {"type": "text", "text": ANSWER}],
        [{"type": "text", "text": {"value": ANSWER, "annotations": []}}],
        [{"type": "text", "content": ANSWER}],
        [{"type": None, "text": ANSWER}],
    ],
)
def test_list_content(content: list[Any]) -> None:
    """An unknown piece doesn't prevent the others from being read."""
    assert chat({"content": content}) == [("text", ANSWER)]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]},
        {"content": [{"type": "media", "mime_type": "image/png", "data": PNG}]},
        {"content": [{"type": "file", "file": {"file_data": URL}}]},
        {"image": {"url": URL}},
        {"image_url": {"url": URL}},
        {"multi_mod_content": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]},
    ],
)
def test_images_in_chat(delta: dict[str, Any]) -> None:
    assert chat(delta) == [IMAGE]


def test_multi_mod_content_repeats_the_text() -> None:
    pieces = [{"text": ANSWER}, {"inline_data": {"mime_type": "image/png", "data": PNG}}]
    assert chat({"content": ANSWER, "multi_mod_content": pieces}) == [("text", ANSWER), IMAGE]


def test_transcript_that_repeats_the_content() -> None:
    parts = chat({"content": "Hel", "audio": {"transcript": "Hel"}}, {"content": "lo!", "audio": {"transcript": "lo!"}})
    assert parts == [("text", ANSWER)]


def test_something_else_after_a_closing_tag() -> None:
    """A closing tag at the end of a chunk is decided on before an image or a call follows."""
    image = {"images": [{"image_url": {"url": URL}}]}
    parts = chat({"content": THOUGHT}, {"content": "</think>"}, image, {"content": ANSWER})
    assert parts == [("reasoning", THOUGHT), IMAGE, ("text", ANSWER)]
    call = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    assert chat({"content": THOUGHT}, {"content": "</think>"}, call) == [("reasoning", THOUGHT), ("tool_call", "{}")]


@pytest.mark.parametrize("tag", ["</think>", "</thought>", "</reasoning>", "</seed:think>"])
def test_a_closing_tag_alone(tag: str) -> None:
    assert chat({"content": THOUGHT + tag[:4]}, {"content": tag[4:]}, {"content": ANSWER}) == BOTH


def test_the_model_thinks_twice() -> None:
    """The draft between two closing tags isn't the answer."""
    thought = [("reasoning", "OneTwo"), ("text", ANSWER)]
    assert (
        chat({"content": "<think>One</think>"}, {"content": "Two"}, {"content": "</think>"}, {"content": ANSWER})
        == thought
    )
    assert chat({"content": "<think>One</think></think>"}, {"content": ANSWER}) == [
        ("reasoning", "One"),
        ("text", ANSWER),
    ]


@pytest.mark.parametrize(
    ("block", "deltas"),
    [
        ({"type": "reasoning", "text": THOUGHT}, []),
        ({"type": "reasoning"}, [{"type": "reasoning_delta", "text": THOUGHT}]),
        ({"type": "thinking"}, [{"type": "text_delta", "text": THOUGHT}]),
        ({"type": "thinking"}, [{"thinking": THOUGHT}]),
        ({"type": "thinking", "thinking": {"text": THOUGHT}}, []),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": f"<think>{THOUGHT}</think>"}]),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": f"{THOUGHT}</think>"}]),
    ],
)
def test_thoughts_in_messages(block: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
    assert messages((block, deltas), ({"type": "text", "text": ""}, [{"type": "text_delta", "text": ANSWER}])) == BOTH


def test_a_draft_after_a_thinking_block() -> None:
    thinking = [{"type": "thinking_delta", "thinking": THOUGHT}, {"type": "signature_delta", "signature": "s"}]
    text = [{"type": "text_delta", "text": text} for text in ("Draft", "</think>", ANSWER)]
    parts = messages(({"type": "thinking", "thinking": ""}, thinking), ({"type": "text", "text": ""}, text))
    assert parts == [("reasoning", THOUGHT), ("reasoning", "Draft"), ("text", ANSWER)]


@pytest.mark.parametrize(
    ("block", "deltas"),
    [
        ({"type": "image", "b64_json": PNG}, []),
        ({"type": "image"}, [{"type": "image_delta", "source": {"media_type": "image/png", "data": PNG}}]),
    ],
)
def test_images_in_messages(block: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
    assert messages((block, deltas)) == [IMAGE]


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"type": "message", "content": ANSWER}, [("text", ANSWER)]),
        ({"type": "reasoning", "content": THOUGHT}, [("reasoning", THOUGHT)]),
        ({"type": "message", "content": [{"type": "thinking", "thinking": THOUGHT}]}, [("reasoning", THOUGHT)]),
    ],
)
def test_items_of_responses(item: dict[str, Any], parts: list[tuple[str, str]]) -> None:
    assert responses({"type": "response.output_item.done", "output_index": 0, "item": item}) == parts


def test_an_image_in_a_piece_of_responses() -> None:
    part = {"type": "output_image", "image_url": URL}
    assert responses({"type": "response.content_part.done", "output_index": 0, "part": part}) == [IMAGE]
