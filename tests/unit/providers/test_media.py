"""Images, sound and unknown content in each dialect: nothing that a model sends is left out without a note."""

from __future__ import annotations

from typing import Any

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.media import IMAGES_MAX, NOTES
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from tests.answers import Answer, decode_events

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
GIF = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
URL = f"data:image/png;base64,{PNG}"
LINK = "https://images.example/1.png"


def chat(*deltas: dict[str, Any], message: dict[str, Any] | None = None) -> Answer:
    choices: list[dict[str, Any]] = [{"delta": delta} for delta in deltas]
    if message is not None:
        choices.append({"message": message})
    choices.append({"delta": {}, "finish_reason": "stop"})
    return decode_events(ChatDecoder(Quirks(), FAILURES), *({"choices": [choice]} for choice in choices))


def response(*events: dict[str, Any], output: list[dict[str, Any]] | None = None) -> Answer:
    ending = {"type": "response.completed", "response": {"status": "completed", "output": output or []}}
    return decode_events(ResponsesDecoder(Quirks(), FAILURES), *events, ending)


def done(item: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def message(*blocks: dict[str, Any], content: list[dict[str, Any]] | None = None) -> Answer:
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"content": content or []}}]
    for index, block in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_stop", "index": index})
    return ended(*events)


def ended(*events: dict[str, Any]) -> Answer:
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return decode_events(MessagesDecoder(FAILURES), *events, stop, {"type": "message_stop"})


IMAGES: dict[str, Answer] = {
    "chat: images": chat({"images": [{"type": "image_url", "image_url": {"url": URL}}]}),
    "chat: images of texts": chat({"content": "", "images": [URL]}),
    "chat: one image": chat({"images": {"b64_json": PNG, "mime_type": "image/png"}}),
    "chat: image_url": chat({"content": [{"type": "image_url", "image_url": {"url": URL}}]}),
    "chat: image_url as text": chat({"content": [{"type": "output_image", "image_url": URL}]}),
    "chat: image with a source": chat(
        {"content": {"type": "image", "source": {"media_type": "image/png", "data": PNG}}}
    ),
    "chat: inline data": chat({"content": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]}),
    "chat: whole message": chat(message={"content": None, "images": [{"image_url": {"url": URL}}]}),
    "chat: again in the message": chat(
        {"images": [{"image_url": {"url": URL}}]}, message={"content": "", "images": [{"image_url": {"url": URL}}]}
    ),
    "responses: item": response(
        done({"type": "image_generation_call", "id": "ig", "result": PNG, "output_format": "png"})
    ),
    "responses: only in the ending": response(output=[{"type": "image_generation_call", "id": "ig", "result": PNG}]),
    "responses: in both": response(
        done({"type": "image_generation_call", "id": "ig", "result": PNG}),
        output=[{"type": "reasoning"}, {"type": "image_generation_call", "id": "ig", "result": PNG}],
    ),
    "responses: a preview and the image": response(
        {"type": "response.image_generation_call.partial_image", "output_index": 0, "partial_image_b64": GIF},
        done({"type": "image_generation_call", "result": PNG}),
    ),
    "responses: only previews": response(
        {"type": "response.image_generation_call.partial_image", "output_index": 0, "partial_image_b64": GIF},
        {"type": "response.image_generation_call.partial_image", "output_index": 0, "partial_image_b64": PNG},
    ),
    "responses: output_image": response(
        done({"type": "message", "content": [{"type": "output_image", "image_url": URL}]})
    ),
    "messages: block": message({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
    "messages: in message_start": message(
        content=[{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_a_part_in_every_dialect(name: str) -> None:
    """The image is one part, with its type, its size and its data, and comes only once."""
    answer = IMAGES[name]
    assert (answer.parts, answer.finish, answer.error) == ([("image", "")], "stop", None)
    assert (answer.started[0].media_type, answer.started[0].size, answer.data) == ("image/png", 70, {0: PNG})


def test_an_address_is_passed_on() -> None:
    """An image at an http or https address is a part with that address."""
    for answer in (
        chat({"images": [{"image_url": {"url": LINK}}]}),
        message({"type": "image", "source": {"type": "url", "url": LINK}}),
        response(done({"type": "image_generation_call", "result": LINK})),
    ):
        assert answer.parts == [("image", "")]
        assert (answer.started[0].url, answer.started[0].size) == (LINK, None)


def test_text_and_images_keep_their_order() -> None:
    """Text before, between and after images stays where the model wrote it."""
    answer = chat({"content": "Here: "}, {"images": [URL]}, {"content": " and"}, {"images": [GIF]}, {"content": "."})
    assert answer.parts == [("text", "Here: "), ("image", ""), ("text", " and"), ("image", ""), ("text", ".")]


def test_a_piece_may_have_a_text_and_an_image() -> None:
    """The text and the image of a piece are both parts. An unknown piece with a text needs no note."""
    piece = {"type": "image_url", "text": "A cat.", "image_url": {"url": URL}}
    assert chat({"content": [piece]}).parts == [("text", "A cat."), ("image", "")]
    assert chat({"content": [{"type": "caption", "text": "A cat."}]}).parts == [("text", "A cat.")]


SOUND: dict[str, Answer] = {
    "chat": chat(
        {"audio": {"id": "a", "transcript": "Good "}}, {"audio": {"transcript": "day."}}, {"audio": {"data": "AA=="}}
    ),
    "chat: list": chat({"content": [{"type": "audio", "audio": {"transcript": "Good day.", "data": "AA=="}}]}),
    "responses": response(
        {"type": "response.output_audio.delta", "output_index": 0, "delta": "AA=="},
        {"type": "response.output_audio_transcript.delta", "output_index": 0, "content_index": 0, "delta": "Good "},
        {"type": "response.output_audio_transcript.delta", "output_index": 0, "content_index": 0, "delta": "day."},
        {
            "type": "response.output_audio_transcript.done",
            "output_index": 0,
            "content_index": 0,
            "transcript": "Good day.",
        },
        done({"type": "message", "content": [{"type": "output_audio", "transcript": "Good day.", "data": "AA=="}]}),
    ),
    "responses: whole": response(
        done({"type": "message", "content": [{"type": "output_audio", "transcript": "Good day.", "data": "AA=="}]})
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_transcript_is_text(name: str) -> None:
    """The words of sound are the answer's text, once, and the sound itself needs no note then."""
    assert SOUND[name].parts == [("text", "Good day.")]


NAMED: dict[str, tuple[Answer, str]] = {
    "chat: audio": (chat(*[{"audio": {"data": "AA=="}}] * 3), "audio"),
    "chat: input_audio": (chat({"content": [{"type": "input_audio", "input_audio": {"data": "AA=="}}]}), "audio"),
    "chat: video": (chat(*[{"content": [{"type": "video_url", "video_url": {"url": LINK}}]}] * 3), "video"),
    "chat: file": (chat({"content": [{"type": "file", "file": {"file_id": "f"}}]}), "file"),
    "chat: unknown": (chat({"content": [{"type": "hologram", "beams": 3}]}), "other"),
    "chat: HTML": (chat({"images": [{"image_url": {"url": "data:text/html;base64,PGI+"}}]}), "other"),
    "chat: SVG": (chat({"images": [{"image_url": {"url": "data:image/svg+xml;base64,PHN2Zz4="}}]}), "image"),
    "chat: a video as image": (chat({"images": [{"image_url": {"url": "data:video/mp4;base64,AAAA"}}]}), "video"),
    "chat: not base64": (chat({"images": [{"image_url": {"url": "data:image/png;base64,***"}}]}), "image"),
    "chat: nothing": (chat({"images": [{}, None, 7, [], {"image_url": {"url": ""}}]}), "image"),
    "chat: deep": (chat({"images": [{"image": {"image": {"image": {"image": {"image": URL}}}}}]}), "image"),
    "responses: no image": (
        response(done({"type": "image_generation_call", "status": "failed", "result": None})),
        "image",
    ),
    "responses: unknown item": (response(done({"type": "hologram", "id": "h"})), "other"),
    "responses: audio": (response({"type": "response.audio.delta", "delta": "AA=="}), "audio"),
    "messages: unknown block": (message({"type": "hologram"}, {"type": "hologram"}), "other"),
    "messages: a file": (message({"type": "document", "source": {"type": "file", "file_id": "f"}}), "file"),
    "messages: an image in a file": (message({"type": "image", "source": {"type": "file", "file_id": "f"}}), "image"),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_cant_be_shown_is_named_once(name: str) -> None:
    """A part of text says what was sent, once for each kind."""
    answer, kind = NAMED[name]
    assert (answer.parts, answer.finish) == ([("text", NOTES[kind])], "stop")


def test_what_a_providers_own_tools_do_is_not_named() -> None:
    """Neither searches nor their results, nor thinking without text, are part of the answer."""
    blocks = ["server_tool_use", "web_search_tool_result", "code_execution_tool_result", "mcp_tool_use", "thinking"]
    assert message({"type": "text", "text": "Hi"}, *({"type": kind} for kind in blocks)).parts == [("text", "Hi")]
    items = ["web_search_call", "file_search_call", "mcp_list_tools", "shell_call_output", "compaction", "reasoning"]
    assert response(*(done({"type": kind}, n) for n, kind in enumerate(items))).parts == []
    pieces = [{"type": "reference", "reference_ids": [1]}, {"type": "text", "text": ""}, {}]
    assert chat({"content": "Hi"}, {"content": pieces}).parts == [("text", "Hi")]


@pytest.mark.parametrize("name", ["chat", "responses"])
def test_an_interrupted_answer_has_no_note(name: str) -> None:
    """A note would become part of the text that a model is asked to continue."""
    if name == "chat":
        deltas: list[dict[str, Any]] = [{"content": "Hel"}, {"audio": {"data": "AA=="}}]
        answer = decode_events(ChatDecoder(Quirks(), FAILURES), *({"choices": [{"delta": delta}]} for delta in deltas))
    else:
        text, sound = "response.output_text.delta", "response.audio.delta"
        events = ({"type": text, "delta": "Hel"}, {"type": sound, "delta": "AA=="})
        answer = decode_events(ResponsesDecoder(Quirks(), FAILURES), *events)
    assert (answer.parts, answer.code) == ([("text", "Hel")], "upstream_incomplete")


def test_a_note_doesnt_hide_a_refusal() -> None:
    """The finish reason is that of the answer, whatever note follows it."""
    answer = chat({"refusal": "No."}, {"audio": {"data": "AA=="}})
    assert (answer.parts, answer.finish) == ([("refusal", "No."), ("text", NOTES["audio"])], "refusal")


def test_hundreds_of_images_are_bounded() -> None:
    """The first images are parts, and one text stands for the others."""
    links = [{"image_url": {"url": f"{LINK}?{n}"}} for n in range(1000)]
    answer = chat({"images": links[:500]}, {"images": links[500:]})
    assert [kind for kind, _ in answer.parts] == ["image"] * IMAGES_MAX + ["text"]
    assert answer.parts[-1][1] == NOTES["images"]


def text_block(index: int, text: str) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": index},
    ]


def test_the_content_of_message_start_is_used_once() -> None:
    """This content is the answer if no event begins its blocks again. Blocks that are begun again aren't added twice."""
    content = [{"type": "text", "text": "Hello"}, {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]
    start = {"type": "message_start", "message": {"content": content}}
    call = ("tool_call", '{"a": 1}')
    assert ended(start).parts == [("text", "Hello"), call]
    assert ended(start, *text_block(0, "Hello")).parts == [("text", "Hello")]
    assert ended(start, *text_block(2, " you")).parts == [("text", "Hello"), call, ("text", " you")]
    first = {"type": "message_start", "message": {"content": content[:1]}}
    more = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " you"}}
    assert ended(first, more).parts == [("text", "Hello you")]
