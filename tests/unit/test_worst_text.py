"""Every pattern and loop that sees external text is run on a worst-case megabyte and must be fast (law 11).

Each one is a row of `ROWS`. A regular expression that is neither in a row nor in `NO_EXTERNAL_INPUT` fails
`test_every_pattern_has_a_row`.
"""

from __future__ import annotations

import ast
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from starlette.datastructures import Headers

from gateway.dialects.ag_ui import run_of
from gateway.dialects.ai_sdk import Submission
from gateway.dialects.ai_sdk_request import request_id_in as ui_request_id_in
from gateway.dialects.ai_sdk_request import request_of as ui_request_of
from gateway.dialects.anthropic_messages import start_of as message_start_of
from gateway.dialects.base import media_part, own_id
from gateway.dialects.chat_completions import start_of
from gateway.dialects.plain_http import start_of_stream
from gateway.dialects.responses import create_of
from gateway.dialects.responses_ids import is_response_id
from gateway.http.admin import AdminStop
from gateway.http.assets import _HASHED, _accepted_encoding, has_tag
from gateway.http.credentials import Revocation
from gateway.http.dialects.chat_completions import StreamGet
from gateway.http.dialects.plain_http_turns import POSITION
from gateway.http.dialects.responses_socket import STREAM_ID
from gateway.http.frame_headers import frame_headers
from gateway.http.negotiation import negotiate_media_type, parse_last_event_id, prefers_async
from gateway.http.part_download import _MEDIA_TYPE
from gateway.http.request_body import _check_type, convert_request, decode_body, decode_start, parse_query
from gateway.http.responses import HttpError
from gateway.identity.api_keys import ApiKeys
from gateway.identity.authenticator import _parse_query
from gateway.identity.origin import check_host, check_origin, is_loopback
from gateway.identity.tokens import Tokens
from gateway.protocol.codec import JSON, MSGPACK, FrameError
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import from_rfc3339, request_id_in
from gateway.protocol.plain_text import escape_invisible, has_visible, is_plain
from gateway.protocol.requests import ConversationUpdate, Ping, TurnGet, TurnStart
from gateway.protocol.text_size import clip_text, split_text
from gateway.protocol.validation import check_start
from gateway.protocol.value_count import ValueCount
from gateway.protocol.views import MessageBody, message_view, parse_part_url, preview, title_of
from gateway.settings import TokenSettings
from gateway.turns.prepared_start import encode_content
from providers.anthropic.events import MessagesDecoder
from providers.anthropic.request import messages_body
from providers.base import (
    ChatMessage,
    ChatRequest,
    ImagePart,
    Part,
    ProviderError,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from providers.delta_buffer import DeltaBuffer
from providers.demo.model import Dialect, demo_text
from providers.demo.tokens import Tokens as DemoTokens
from providers.demo.tokens import split
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.errors.finish_reasons import map_finish_reason
from providers.errors.retry_headers import retry_after_ms
from providers.errors.words import redact
from providers.fit.calls import legal_name, object_arguments
from providers.fit.ids import CallIdMaker, own_call_id
from providers.http.aws_events import AwsEventParser
from providers.http.body import ResponseBody
from providers.http.chunk_fast_path import ChunkFastPath
from providers.http.lenient_json import parse_documents
from providers.http.no_chunk import read_no_chunk
from providers.http.sse import InvalidEvent
from providers.http.stream import DeltaStream
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.chat_request import chat_body
from providers.openai.responses_events import ResponsesDecoder
from providers.openai.responses_items import OutputItems
from providers.openai.responses_schema import Item, Piece
from providers.openai.tool_calls import ToolCallAssembler
from providers.openai.whole_output import complete_output
from providers.quirks import Quirks
from providers.retry.replay_dedupe import ReplayFilter
from providers.retry.seam import Seam
from providers.think_tags import ThinkTags
from providers.timeouts import Timeouts
from providers.token_counts import read_counts
from providers.token_lower_bound import exceeds_window
from store import search_text
from store.archive.archived_store import _OWN_ID
from store.archive.types import escape, unescape
from store.records import MessageRecord
from store.redis.erasure import _escape
from tests.answers import Batches, chat_request, route
from tests.aws_frames import frame
from tests.in_process import make_settings

MEGABYTE = 1_000_000
BOUND_S = 1.5
"""In CPU time. A linear case takes a fraction of it, a quadratic one takes minutes."""

SECRET = "sk-secret-0123456789"
UI = Submission(ui_request_of(b'{"messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}'), {})
RUN = run_of(b'{"threadId": "t", "runId": "r", "messages": [{"id": "u", "role": "user", "content": "Hi"}]}', {})
PLAIN = start_of_stream(b'{"messages":[{"role":"user","content":"Hi"}]}', {}).start
CHAT = start_of(b'{"messages":[{"role":"user","content":"Hi"}]}', {})
MESSAGES = message_start_of(b'{"messages":[{"role":"user","content":"Hi"}]}', {})
FAILURES = Failures(Endpoint("kimi", "Kimi", "https://api.example.com/v1", ("KEY",), (SECRET,)))
REFUSALS = (ApiError, HttpError, FrameError, ProviderError, InvalidEvent, ValueError, msgspec.MsgspecError)
"""The errors for rejected input. It is measured as well, because it was read until it was rejected."""


class Row(NamedTuple):
    """One case. `reads` names the patterns that see the text."""

    name: str
    call: Callable[[], object]
    reads: str = ""


def fill(piece: str) -> str:
    """Return a megabyte of `piece`."""
    return piece * (MEGABYTE // len(piece.encode()))


def filled(piece: bytes) -> bytes:
    """Return a megabyte of `piece`."""
    return piece * (MEGABYTE // len(piece))


def error_from_event(**fields: object) -> object:
    """Return the error for a provider's error event with these fields."""
    return FAILURES.from_event({"error": fields})


def error_from_response(body: object) -> object:
    """Return the error for a response with status 400 and this body."""
    return FAILURES.from_response(400, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def decode(decoder: ChatDecoder | ResponsesDecoder | MessagesDecoder, *events: Any) -> None:
    """Feed events to a decoder."""
    for event in events:
        decoder.decode_event(None, event if isinstance(event, bytes) else json.dumps(event).encode())
        decoder.parts.drain()


def chat_decoder(**quirks: Any) -> ChatDecoder:
    return ChatDecoder(Quirks(**quirks), FAILURES)


def responses_decoder() -> ResponsesDecoder:
    return ResponsesDecoder(Quirks(), FAILURES)


def stream(*chunks: bytes, of: ChatDecoder | ResponsesDecoder | MessagesDecoder | None = None) -> None:
    """Process these bytes as a stream with status 200."""
    body = SimpleNamespace(extend_deadline=lambda _: None)
    stream = DeltaStream(cast("ResponseBody", body), of or chat_decoder(), FAILURES, 60, Batches())
    for chunk in chunks:
        stream._process_chunk(chunk)
        stream._process_large(stream._large_events)
        stream._large_events = []
    stream._process_last(stream._parser.close())


def named_calls() -> None:
    """Repeat the call's name with each of its pieces: first a megabyte, and then a thousand pieces more."""
    calls = ToolCallAssembler(DeltaBuffer())
    for arguments in ('{"x":"' + fill("}"), *["}"] * 1000):
        calls.add(0, "", "f", arguments, "")


def many_calls(name: str) -> None:
    calls = ToolCallAssembler(DeltaBuffer())
    for number in range(10_000):
        calls.add(number, f"c{number}", name, "{}", "")
    calls.close()


def name_in_pieces() -> None:
    calls = ToolCallAssembler(DeltaBuffer())
    for _ in range(100_000):
        calls.add(0, "c", "names", "", "signed")


def argued(*pieces: str) -> None:
    """Make these pieces the arguments of one call."""
    calls = ToolCallAssembler(DeltaBuffer())
    calls.add(0, "c", "f", "", "")
    for piece in pieces:
        calls.add(0, "", "", piece, "")
    calls.has_half()
    calls.close()


def many_whole_calls() -> None:
    """Repeat 300 calls whole."""
    calls = ToolCallAssembler(DeltaBuffer())
    for _ in range(2):
        for place in range(300):
            calls.fill(place, f"c{place}", "f", '{"x":"' + "y" * 1000 + '"}', "")


def renumbered() -> None:
    """Repeat 3,000 messages and calls in the whole answer, with other indexes and ids."""
    output = OutputItems(DeltaBuffer())
    for place in range(3000):
        output.texts.add("text", f"a{place}", "content", 0, f"text {place}")
        output.complete_item(f"b{place}", Item("function_call", call_id=f"c{place}", name="f", arguments=f"[{place}]"))
    complete_output(
        output,
        [Item("message", content=[Piece("output_text", f"text {place}")]) for place in range(3000)]
        + [Item("function_call", call_id=f"d{place}", name="f", arguments=f"[{place}]") for place in range(3000)],
    )


def many_messages() -> None:
    """Complete many items of one response."""
    output = OutputItems(DeltaBuffer())
    for place in range(10_000):
        output.complete_item(place, Item(type="message", content=[Piece("output_text", "x")]))


def blanks_before_a_tag() -> None:
    tags = ThinkTags()
    for _ in range(100_000):
        tags.feed("\n" * 10)


def tagged() -> None:
    tags = ThinkTags()
    tags.feed("<think>")
    for _ in range(50_000):
        tags.feed("</thin")


def watched(*pieces: str, count: int = 1) -> None:
    """Feed the pieces, after a word that isn't a tag, to a parser that watches for a closing tag alone."""
    tags = ThinkTags(may_restate=lambda: True)
    tags.feed("Well")
    for _ in range(count):
        for piece in pieces:
            tags.feed(piece)
    tags.close()


def repeated_reasoning(*deltas: dict[str, Any], count: int) -> None:
    """Decode these deltas `count` times. Their fields repeat each other, or differ."""
    decoder = chat_decoder(think_tags=True)
    for _ in range(count):
        for delta in deltas:
            decoder.decode_event(None, json.dumps({"choices": [{"delta": delta}]}).encode())
            decoder.parts.drain()
    with suppress(ProviderError):
        decoder.end()


def late_reasoning() -> None:
    """Repeat the reasoning of many chunks as a whole, and then character by character."""
    decoder = chat_decoder()
    for delta in (
        *[{"reasoning": "why "}] * 20_000,
        {"reasoning_details": [{"text": "why " * 20_000}]},
        *[{"thinking": character} for character in "why " * 5000],
    ):
        decoder.decode_event(None, json.dumps({"choices": [{"delta": delta}]}).encode())
    decoder.parts.drain()


def filled_thoughts() -> dict[str, Any]:
    return {
        "choices": [{"delta": {"reasoning": [{"summary": [{"text": "a"}] * 20_000}], "thinking": [[[[]]]] * 100_000}}]
    }


def many_pieces(text: str) -> None:
    """Append many pieces to one part, as a single read may bring them."""
    parts = DeltaBuffer()
    for _ in range(100_000):
        parts.append_text("text", text)
    parts.drain()


def framed(size: int) -> None:
    """Feed one of Amazon's frames in small pieces, as from a slow network."""
    raw = frame({":message-type": "event", ":event-type": "chunk"}, b"x" * size)
    parser = AwsEventParser()
    for begin in range(0, len(raw), 100):
        parser.feed(raw[begin : begin + 100])


def chunked(data: bytes) -> None:
    """Pass the chunks of a response body around aiohttp's parser."""
    ChunkFastPath(cast("Any", None))._pass_chunks(data, cast("ResponseBody", SimpleNamespace(offer=lambda _: True)))


def demo(prompt: str, **options: Any) -> None:
    """Run the demo model to the end of its answer, or with `tokens` to its first batch."""

    async def first() -> None:
        model = Dialect(Endpoint("demo", "Demo", "", ()), Timeouts())
        answering = asyncio.create_task(
            model.answer(chat_request(prompt, demo={"rate": 0} | options), route("demo"), sink := Batches())
        )
        while not sink.put_batches or (not options.get("tokens") and not answering.done()):
            await asyncio.sleep(0)
        answering.cancel()
        await asyncio.wait([answering])

    asyncio.run(first())


def request_of(*parts: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(ChatMessage("assistant", parts),))


def started(**fields: Any) -> bytes:
    """Return the body of a `turn.start`."""
    return json.dumps({"type": "turn.start", **fields}).encode()


def checked(**fields: Any) -> None:
    """Check a `turn.start` as before its acceptance, and encode its content."""
    content = {} if "messages" in fields else {"input": "x"}
    start = msgspec.convert({"type": "turn.start", **content, **fields}, TurnStart)
    check_start(start, MEGABYTE)
    encode_content(start)


def previewed(*texts: str) -> None:
    parts: list[Part] = [TextPart(text) for text in texts]
    preview(message_view(MessageRecord(id="m", parent=None, role="user", created_ms=0, body=b""), MessageBody(parts)))


def token_read(given: str) -> None:
    """Parse a JSON Web Token and the user that it names."""
    rules = TokenSettings(
        prefix="",
        secret="x" * 32,
        public_key=None,
        jwks_url=None,
        algorithms=(),
        issuer=None,
        audience=None,
        leeway_s=0,
        scope_prefix="",
    )
    asyncio.run(Tokens(rules).credential(given))


def names_read(given: str) -> None:
    """Parse each kind of name, from requests of clients and of administrators."""
    for kind, field in (
        (TurnGet, "turn"),
        (TurnStart, "model"),
        (Ping, "id"),
        (Ping, "as"),
        (Revocation, "jti"),
        (AdminStop, "user"),
    ):
        with suppress(msgspec.ValidationError):
            msgspec.convert({"type": kind.__struct_config__.tag, field: given}, kind)


def header(name: str, value: str) -> Headers:
    return Headers({name: value})


WORDS = "words._QUOTED words._KEYLIKE words._ADDRESS words._LONG words._OBJECT"
OF_FAILURES = f"{WORDS} words._RETRY_TEXT failures._NAME failures.Failures._match"
NAMES_IN_FRAMES = "gateway.protocol.requests.TurnId base.Tool.name"
PLAIN_NAMES = "requests.Key requests.ModelId requests.RequestId requests.UserName operation.Identifier"
REFUSED = "gateway.protocol.decode_errors._UNSUPPORTED_VALUE gateway.protocol.decode_errors._MISSING_FIELD"
BIG = b"1e308"
"""A number that takes msgspec alone 14 µs."""

NUMBERS = filled(BIG + b",") + b"1]}}"
USAGE = b'{"role":"user","parts":[],"usage":[' + filled(BIG + b",") + b"1]}]}"
COUNTS: list[Any] = [{"type": "message_delta", "usage": {f"count_{n}": 1}} for n in range(10_000)]
IMAGE: dict[str, Any] = {"kind": "image", "media_type": "image/png"}
DEEP: dict[str, Any] = {
    "type": "object",
    "properties": {"a" * 30_000: {"properties": {f"p{n}": {} for n in range(4_000)}}},
}
ROUTE = route("anthropic")
OF_WAITS = "retry_headers._NUMBER retry_headers._SPAN retry_headers._PIECE"

ROWS = [
    # Errors from providers.
    Row("a log: one word", lambda: redact(fill("a"), (SECRET,)), WORDS),
    Row("a log: hyphens", lambda: redact(fill("a-"), (SECRET,)), WORDS),
    Row("a log: dots", lambda: redact(fill("a."), (SECRET,)), WORDS),
    Row("a log: dots in words", lambda: redact(fill("a" * 63 + "."), (SECRET,)), WORDS),
    Row("a log: opening quotes", lambda: redact(fill("“"), (SECRET,)), WORDS),
    Row("a log: apostrophes", lambda: redact(fill(" 'a"), (SECRET,)), WORDS),
    Row("a log: white space", lambda: redact("bearer" + fill(" "), (SECRET,)), WORDS),
    Row("a log: secrets", lambda: redact(fill(SECRET), (SECRET,)), WORDS),
    Row("a log: parts of secrets", lambda: redact(fill("sk-secret"), ("sk-secret" * 1000,)), WORDS),
    Row("an error's text: one word", lambda: error_from_event(message=fill("a")), OF_FAILURES),
    Row("an error's text: a model", lambda: error_from_event(message=fill("model ")), OF_FAILURES),
    Row("an error's text: a length", lambda: error_from_event(message=fill("input length and ")), OF_FAILURES),
    Row("an error's text: a wait", lambda: error_from_event(message=fill("retry in 1.1")), OF_FAILURES),
    Row("an error's text: digits", lambda: error_from_event(message="retry in 1." + fill("1")), OF_FAILURES),
    Row("an error's text: a list", lambda: error_from_event(message=[[{}]] * 100_000), OF_FAILURES),
    Row("an error's names", lambda: error_from_event(type=fill("a"), code=fill("9"), param=fill("a.")), OF_FAILURES),
    Row(
        "an error's names: objects",
        lambda: error_from_event(type=[[]] * MEGABYTE, code={"a": [1] * MEGABYTE}),
        OF_FAILURES,
    ),
    Row("an error's details", lambda: error_from_event(details=[{"retryDelay": "1"}] * 200_000), "words._RETRY_DELAY"),
    Row("an error's delay", lambda: error_from_event(details=[{"retryDelay": fill("1")}]), "words._RETRY_DELAY"),
    Row("an error that is a list", lambda: FAILURES.from_event([[]] * MEGABYTE)),
    Row("an error response: text", lambda: error_from_response(filled(b"<p>")), OF_FAILURES),
    Row("an error response: one word", lambda: error_from_response({"error": {"message": fill("a")}}), OF_FAILURES),
    Row("an error response: nested", lambda: error_from_response(filled(b"[")), OF_FAILURES),
    Row("an error response: lists", lambda: error_from_response(b'{"error":[' + filled(b"[],") + b"[]]}"), OF_FAILURES),
    Row("an error response: numbers", lambda: error_from_response(b"[" + filled(BIG + b",") + b"1]"), OF_FAILURES),
    Row("an error response: a number", lambda: error_from_response(b'{"code":' + filled(b"9")), OF_FAILURES),
    Row("an error response: escapes", lambda: error_from_response(b'{"error":"' + filled(rb"\u0061")), OF_FAILURES),
    Row(
        "a finish reason that is an error",
        lambda: FAILURES.from_finish_reason(fill("a")),
        "failures.Failures.from_finish_reason",
    ),
    Row(
        "a finish reason",
        lambda: [map_finish_reason(fill(word)) for word in ("time_", "finish_reason_", "end_of_", "STOP")],
        "finish_reasons._map finish_reasons._PREFIX finish_reasons._STOP",
    ),
    Row("an unknown finish reason", lambda: FAILURES.no_finish_reason(fill("a")), "failures._WORD"),
    Row("a count as text", lambda: read_counts({"prompt_tokens": fill("1")}), "token_counts._DIGITS"),
    Row("a count as text: blanks", lambda: read_counts({"prompt_tokens": fill(" ")}), "token_counts._DIGITS"),
    Row("a wait: digits", lambda: retry_after_ms({"retry-after": fill("1")}), OF_WAITS),
    Row("a wait: spans", lambda: retry_after_ms({"retry-after": fill("1m")}), OF_WAITS),
    Row("a wait: a list", lambda: retry_after_ms({"retry-after": fill("1,")}), OF_WAITS),
    Row("an event without a chunk: white space", lambda: read_no_chunk(None, filled(b" ")), "no_chunk._OBJECT"),
    Row("an event without a chunk: a text", lambda: read_no_chunk(None, filled(b"time")), "no_chunk._FAILURE_WORDS"),
    Row("an event without a chunk: a list", lambda: read_no_chunk(None, b"[" + filled(b"{},") + b"{}]")),
    Row("an error's text: a retired model", lambda: error_from_event(message=fill("model is ")), OF_FAILURES),
    Row("an error's text: exceeded", lambda: error_from_event(message=fill("exceeded the ")), OF_FAILURES),
    Row("an error's text: JSON in JSON", lambda: error_from_event(message='{"message":"' + fill("{")), OF_FAILURES),
    Row("a date", lambda: retry_after_ms({"retry-after": fill("1 :"), "date": fill("(")})),
    # Streams from providers.
    Row("lines: empty", lambda: stream(filled(b"\n"))),
    Row("lines: of another format", lambda: stream(filled(b"a\n"))),
    Row("lines: comments", lambda: stream(filled(b":\n\n"))),
    Row("lines: without an end", lambda: stream(*[b"a" * 100] * 10_000)),
    Row("lines: empty events", lambda: stream(filled(b"data:\n\n"))),
    Row("documents: empty", lambda: parse_documents(filled(b"{}")), "lenient_json._SEPARATORS"),
    Row("documents: separators", lambda: parse_documents(filled(b"data: [DONE]") + b"{}"), "lenient_json._SEPARATORS"),
    Row("documents: white space", lambda: parse_documents(filled(b" ")), "lenient_json._SEPARATORS"),
    Row("documents: not UTF-8", lambda: parse_documents(filled(b"\xff"))),
    Row("documents: nested", lambda: parse_documents(filled(b'{"a":'))),
    Row("a response that isn't streamed", lambda: stream(b"[" + filled(b'{"choices":[]},') + b"{}]")),
    Row("a response that isn't streamed: objects", lambda: stream(b"[" + filled(b"{},") + b"{}]")),
    Row("chat: empty chunks in one event", lambda: decode(chat_decoder(), filled(b"{}")), "lenient_json._SEPARATORS"),
    Row(
        "chat: choices in one chunk",
        lambda: decode(chat_decoder(), {"choices": [{"delta": {"content": "x"}}] * 25_000}),
    ),
    Row("chat: choices that don't fit", lambda: decode(chat_decoder(), {"choices": [{"index": "x"}] * 60_000})),
    Row("chat: numbers", lambda: decode(chat_decoder(), b'{"usage":{"a":[' + filled(BIG + b",") + b"1]}}")),
    Row("chat: an error's numbers", lambda: decode(chat_decoder(), b'{"error":[' + filled(BIG + b",") + b"1]}")),
    Row("chat: a call's name in each piece", named_calls, "json_scan._MARK json_scan._IN_STRING"),
    *(
        Row(f"chat: arguments of {text[:9]!r}", partial(lambda text: argued(fill(text)), text))
        for text in ("{", "[", "}", " ", '"', "\\", "\\n", '{"', "{}", '{"a":1}', '{"a":[[],', "null", '"x",')
    ),
    Row("chat: arguments in blanks", lambda: argued(*[" "] * 100_000), "call_arguments._PLACEHOLDERS"),
    Row("chat: placeholders", lambda: argued(*["{", "}", " "] * 30_000), "call_arguments._UNDECIDED"),
    Row("chat: arguments encoded twice", lambda: argued(json.dumps('{"x":"' + fill('\\"') + '"}'))),
    Row("chat: a closing brace in each piece", lambda: argued(*["}"] * 100_000)),
    Row("chat: the call again in each piece", lambda: argued(*['{"a":1}'] * 10_000)),
    Row("chat: a call's whole message in each chunk", many_whole_calls),
    Row("chat: calls", lambda: many_calls("f")),
    Row("chat: calls without a name", lambda: many_calls("")),
    Row("chat: a call's name in pieces", name_in_pieces),
    Row("chat: white space before a think tag", blanks_before_a_tag),
    Row("chat: partial think tags", tagged, "think_tags._CLOSE"),
    Row("chat: the starts of tags in a text", lambda: watched(fill("<thi")), "think_tags._WATCHED"),
    Row("chat: a tag in pieces", lambda: watched("</thin", "g", count=50_000), "think_tags._WATCHED"),
    Row("chat: quoted tags", lambda: watched(" `</think>` ", count=50_000), "think_tags._WATCHED"),
    Row("chat: reasoning in nested lists", lambda: decode(chat_decoder(), filled_thoughts())),
    Row(
        "chat: reasoning in two fields",
        lambda: repeated_reasoning({"reasoning": "why", "thinking": "why"}, count=20_000),
    ),
    Row("chat: reasoning that is repeated late", late_reasoning),
    Row(
        "chat: details that are repeated as a whole",
        lambda: repeated_reasoning({"reasoning_details": [{"text": "x" * 5000}]}, count=200),
    ),
    Row(
        "chat: white space everywhere in repeated reasoning",
        lambda: repeated_reasoning({"reasoning": fill("a ")}, {"thinking": fill(" a")}, {"thinking": "b"}, count=1),
    ),
    Row(
        "chat: white space everywhere in pieces of reasoning",
        lambda: repeated_reasoning({"reasoning": fill("a ")}, *({"thinking": "a  a"} for _ in range(20_000)), count=1),
    ),
    Row(
        "chat: white space in repeated reasoning",
        lambda: repeated_reasoning({"reasoning": " " * 500_000 + "a"}, {"thinking": "\n" * 500_000 + "b"}, count=1),
    ),
    Row(
        "chat: reasoning with different texts",
        lambda: repeated_reasoning({"reasoning": "ab"}, {"thinking": "ac"}, {"reasoning_text": "b"}, count=10_000),
    ),
    Row("responses: numbers", lambda: decode(responses_decoder(), b'{"error":[' + filled(BIG + b",") + b"1]}")),
    Row("responses: messages", many_messages),
    Row("responses: the whole answer counts its items otherwise", renumbered),
    Row("anthropic: counts", lambda: decode(MessagesDecoder(FAILURES), *COUNTS)),
    Row(
        "anthropic: numbers",
        lambda: decode(MessagesDecoder(FAILURES), b'{"usage":{"a":[' + filled(BIG + b",") + b"1]}}"),
    ),
    Row("amazon: one frame in pieces", lambda: framed(8 * MEGABYTE)),
    Row("parts: pieces", lambda: many_pieces("x" * 10)),
    Row("parts: characters", lambda: many_pieces("é" * 10), "delta_buffer._SURROGATE"),
    Row(
        "parts: lone surrogates",
        lambda: DeltaBuffer().append_text("text", "\ud800" * (MEGABYTE // 6)),
        "delta_buffer._SURROGATE delta_buffer._HIGH_AT_END",
    ),
    Row(
        "parts: a URL",
        lambda: DeltaBuffer().add_citation(url="https://" + fill("a") + " ", title=None, text=None),
        "delta_buffer._HTTP_URL",
    ),
    Row("a replayed answer", lambda: ReplayFilter([TextPart(fill("a"))]).filter([])),
    Row("an answer that broke off: words", lambda: Seam(fill("ab ")).feed(fill("ab ")), "seam._WORD_STARTS"),
    Row("an answer that broke off: letters", lambda: Seam(fill("a")).feed(fill("a")), "seam._WORD_STARTS"),
    Row("an answer that broke off: signs", lambda: Seam(fill("-")).feed(fill("-")), "seam._WORD_STARTS"),
    Row(
        "an answer that broke off: one token", lambda: Seam(fill("a") + ",").feed(fill("a") + ","), "seam._SINGLE_TOKEN"
    ),
    Row("chunks of one byte", lambda: chunked(filled(b"1\r\nx\r\n")), "chunk_fast_path._CHUNK_SIZE"),
    # Requests from clients.
    Row("a frame: a name", lambda: JSON.decode(json.dumps({"type": "ping", fill(" - at `$") + "\n": 1})), REFUSED),
    Row("a frame: a name in a map", lambda: MSGPACK.decode(msgspec.msgpack.encode({fill("got `"): 1})), REFUSED),
    Row("a frame: a type", lambda: JSON.decode(json.dumps({"type": fill(" - at `$") + "\n"})), REFUSED),
    Row("a frame: ids", lambda: JSON.decode(json.dumps({"type": "turn.start", "turn": fill("a")})), NAMES_IN_FRAMES),
    Row("a frame: names", lambda: names_read(fill("a")), PLAIN_NAMES),
    Row("a name: invisible characters", lambda: is_plain(fill("a\u200b")), "plain_text._PLAIN"),
    Row("a request id", lambda: request_id_in([(b"x-request-id", fill("a").encode())]), "ids._REQUEST_ID"),
    Row("a text that is blank", lambda: has_visible(fill(" \u200b")), "plain_text._VISIBLE"),
    Row("a name: plain", lambda: is_plain(fill("a")), "plain_text._PLAIN"),
    Row("a line of the log", lambda: escape_invisible(fill("\u200b")), "plain_text._ESCAPED"),
    Row(
        "a proxy's header",
        lambda: check_host([(filled(b"x-forwarded-"), b"")], make_settings()),
        "origin.PROXY_HEADERS",
    ),
    Row("a body's values: a string", lambda: ValueCount(9).feed(b'"' + filled(b"a")), "value_count._INSIDE"),
    Row("a body's values: escapes", lambda: ValueCount(9).feed(b'"' + filled(b'\\"')), "value_count._INSIDE"),
    Row("a body's values: strings", lambda: ValueCount(MEGABYTE).feed(filled(b'"",')), "value_count._INSIDE"),
    Row("a frame: a tool", lambda: JSON.decode(started(tools=[{"name": fill("a")}])), NAMES_IN_FRAMES),
    Row(
        "a frame: lone surrogates",
        lambda: JSON.decode('{"a":"' + fill(r"\ud83d\ud83d")),
        "gateway.protocol.decode_errors._LONE_SURROGATE",
    ),
    Row("a frame: nested", lambda: JSON.decode('{"type":"ping","t":' + fill("["))),
    Row("a frame: numbers", lambda: JSON.decode(b'{"type":"ping","a":[' + filled(BIG + b",") + b"1]}"), REFUSED),
    Row("a frame: numbers in metadata", lambda: JSON.decode(b'{"type":"turn.start","metadata":{"a":[' + NUMBERS)),
    Row("a body: numbers", lambda: decode_body(ConversationUpdate, {}, b'{"metadata":{"a":[' + NUMBERS, ("metadata",))),
    Row("a body: numbers in usage", lambda: decode_start(b'{"type":"turn.start","messages":[' + USAGE, MEGABYTE)),
    Row("a body: a name", lambda: decode_start(started(**{fill(" - at `$") + "\n": 1}), MEGABYTE), REFUSED),
    Row("text for a frame", lambda: split_text(fill("a"), 15_000)),
    Row("text for a frame: escapes", lambda: split_text(fill("\x01"), 15_000)),
    Row("text for a frame: mixed", lambda: split_text(fill("\x01" * 9_000 + "a" * 9_000), 15_000)),
    Row("text that is clipped", lambda: clip_text(fill("\x01") + fill("a"), 4096)),
    Row(
        "an input: a data URL",
        lambda: checked(input=[IMAGE | {"url": "data:image/" + fill("a")}]),
        "validation._IMAGE_DATA",
    ),
    Row("an input: base64", lambda: checked(input=[IMAGE | {"data": fill("A") + "!"}])),
    Row("an input: a title", lambda: title_of([TextPart(fill("\n "))])),
    Row("an input: a title's line", lambda: title_of([TextPart("x" + fill(" a"))])),
    Row("an input: its preview", lambda: previewed(fill("\x01"), fill("a"))),
    Row("an input: a part's URL", lambda: parse_part_url("/v1/messages/" + fill("a") + "/parts/1"), "views._PART_URL"),
    Row("a schema's path", lambda: checked(input="x", tools=[{"name": "f", "parameters": DEEP}])),
    Row("a search: a query of quotes", lambda: search_text.parse_query(fill('"')), "search_text._TERM"),
    Row("a search: a query of words", lambda: search_text.parse_query(fill("a -")), "search_text._TERM"),
    Row(
        "a search: a text of accents",
        lambda: search_text.words(fill("e\u0301")),
        "search_text._WORD search_text._ACCENTS",
    ),
    Row("a search: a text of ideographs", lambda: search_text.words(fill("字")), "search_text._WORD"),
    Row(
        "a search: the beginning of a phrase",
        lambda: search_text.parse_query('"' + "a " * 99 + "b").matches(search_text.words(fill("a ")[:200_000])),
    ),
    Row(
        "a search: a place",
        lambda: search_text.snippet(fill("字 ß"), search_text.parse_query("x")),
        "search_text._PIECE",
    ),
    Row(
        "a search: a late place",
        lambda: search_text.snippet(fill("ß")[:99_990] + " needle", search_text.parse_query("needle")),
    ),
    Row(
        "a search: blanks",
        lambda: search_text.snippet(fill(" \n"), search_text.parse_query("x")),
        "search_text._SPACES",
    ),
    Row("a search: a message", lambda: search_text.message_text(b'{"parts":[' + filled(b"["))),
    Row("a user's name in a pattern of Redis", lambda: _escape(filled(b"*")), "erasure._SPECIAL"),
    Row("an archived text of surrogates", lambda: escape("\ud800" * (MEGABYTE // 3)), "archive.types._UNSTORABLE"),
    Row("an archived text of NUL characters", lambda: escape(fill("\0")), "archive.types._UNSTORABLE"),
    Row("an archived text of accents", lambda: escape(fill("\u00e9")), "archive.types._UNSTORABLE"),
    Row("an archived text of marks", lambda: unescape(fill("\x1a")), "archive.types._ESCAPED"),
    Row("an archived text of escapes", lambda: unescape(fill("\x1a0000")), "archive.types._ESCAPED"),
    Row("a conversation's own id", lambda: _OWN_ID.fullmatch("c_" + fill("a")), "archived_store._OWN_ID"),
    Row("a file's type", lambda: _MEDIA_TYPE.fullmatch(fill("a/")), "part_download._MEDIA_TYPE"),
    Row("a request: words", lambda: exceeds_window(chat_request(fill("ab ")), 10**6)),
    Row("a request: ideographs", lambda: exceeds_window(chat_request(fill("字 ")), 10**6)),
    Row(
        "a request to Anthropic",
        lambda: messages_body(request_of(image("data:" + fill("a"))), ROUTE),
        "anthropic.request._DATA_URL",
    ),
    Row("the id of a provider's call", lambda: own_call_id("m", 0, fill("é")), "ids._UNSAFE"),
    Row("the id of a stored call", lambda: CallIdMaker("short").next(fill("a"), "f"), "ids._SHORT"),
    Row("the id of a stored call, of nine", lambda: CallIdMaker("nine").next(fill("a"), "f"), "ids._NINE"),
    Row("the name of an invented tool", lambda: legal_name(fill("é")), "calls._NAME calls._NAME_UNSAFE"),
    Row("arguments of brackets", lambda: object_arguments(fill("["))),
    Row("arguments of quotes", lambda: object_arguments(fill('"'))),
    Row("arguments with long numbers", lambda: object_arguments("[" + fill("1." + "9" * 300 + "e308,") + "1]")),
    Row("arguments with one long number", lambda: object_arguments(fill("9"))),
    Row("a request with a call", lambda: messages_body(request_of(ToolCallPart("c", "f", fill("["))), ROUTE)),
    Row(
        "a request with a reasoning detail",
        lambda: chat_body(request_of(ReasoningPart("", signature=fill("["))), route(reasoning_details=True)),
    ),
    Row("a request to the demo: white space", lambda: demo(fill(" ")), "demo.model._MARKUP demo.tokens._TOKEN"),
    Row("a request to the demo: words", lambda: demo(fill("a ")), "demo.model._MARKUP demo.tokens._TOKEN"),
    Row("a request to the demo: markup", lambda: demo_text(chat_request(fill("*"))), "demo.model._MARKUP"),
    Row("the demo's text: white space", lambda: demo("x", text=fill(" ")), "demo.tokens._TOKEN"),
    Row("the demo's text: repeated", lambda: demo("x", text="a" * 60_000, tokens=10**6)),
    Row("the demo's tokens", lambda: len(list(DemoTokens("a" * 60_000, 10**6)))),
    Row("the demo's tokens: white space", lambda: split(fill(" ")), "demo.tokens._TOKEN"),
    # Request heads, which are limited to 64 KiB.
    Row("Host", lambda: is_loopback(fill("a.")), "origin._HOST"),
    Row("Host: an IP address", lambda: is_loopback("[" + fill(":")), "origin._HOST"),
    Row("Origin", lambda: check_origin([(b"origin", filled(b"://"))], make_settings())),
    Row(
        "Accept", lambda: negotiate_media_type(header("accept", fill("a,")), ("application/json", "text/event-stream"))
    ),
    Row(
        "Accept: parameters", lambda: negotiate_media_type(header("accept", "a" + fill(";q=1")), ("application/json",))
    ),
    Row("Accept-Encoding", lambda: _accepted_encoding(fill("br ,")), "http.assets._ENCODING"),
    Row("Accept-Encoding: zeros", lambda: _accepted_encoding("br;q=0." + fill("0")), "http.assets._ENCODING"),
    Row("Accept-Encoding: spaces", lambda: _accepted_encoding("br" + fill(" ")), "http.assets._ENCODING"),
    Row("a path of a frame", lambda: frame_headers("/static/" + fill("a") + "/"), "http.frame_headers._FILES"),
    Row("a path of a file", lambda: _HASHED.fullmatch("0123456789ab-page/" + fill("/")), "http.assets._HASHED"),
    Row("If-None-Match", lambda: has_tag(header("if-none-match", fill('",')), '"a"')),
    Row("Prefer", lambda: prefers_async(header("prefer", fill("a,")))),
    Row("Last-Event-ID", lambda: parse_last_event_id(header("last-event-id", fill("1"))), "negotiation.EVENT_ID"),
    Row("Content-Type", lambda: _check_type(header("content-type", "application/json" + fill(";")))),
    Row("a dialect's media", lambda: media_part("data:a/b" + fill(";a=b"), ""), "dialects.base._DATA_URL"),
    Row("a dialect's media: a type", lambda: media_part("data:" + fill("a."), ""), "dialects.base._DATA_URL"),
    Row("a dialect's id", lambda: own_id("t", fill("a")), "dialects.base._OWN_ID"),
    Row("a response's id", lambda: is_response_id("resp_" + fill("a_")), "responses_ids._RESPONSE_ID"),
    Row("a stream's id", lambda: STREAM_ID.fullmatch(fill("a.")), "responses_socket.STREAM_ID"),
    Row(
        "paths of a response's errors",
        lambda: create_of(b'{"input":"a"}', {}).path(fill("messages[1].parts")),
        "dialects.responses._MESSAGE_PATH field_paths._INPUT_PATH field_paths._DATA_PATH",
    ),
    Row(
        "a dialect's path",
        lambda: CHAT.path("tools[1].parameters" + fill(".messages[")),
        "field_paths._MESSAGE_PATH chat_completions._TOOL_PATH field_paths._INPUT_PATH field_paths._DATA_PATH",
    ),
    Row(
        "a path of Anthropic Messages",
        lambda: MESSAGES.path("tools[1].parameters" + fill(".messages[")),
        "anthropic_messages._MESSAGE_PATH field_paths._INPUT_PATH anthropic_messages._TOOL_PATH",
    ),
    Row(
        "a path of the AI SDK",
        lambda: UI.path("tools[1].parameters" + fill(".messages[")),
        "field_paths._MESSAGE_PATH ai_sdk._TOOL_PATH",
    ),
    Row(
        "a frame of the AI SDK",
        lambda: ui_request_id_in(b'{"type":"' + fill("a ").encode()),
        "ai_sdk_request._ENVELOPE",
    ),
    Row("a path of AG-UI", lambda: RUN.path(fill("input[1")), "field_paths._INPUT_PATH"),
    Row("a path of plain HTTP", lambda: PLAIN.path(fill("messages[1].parts")), "field_paths._MESSAGE_PATH"),
    Row(
        "a position in plain HTTP", lambda: POSITION.fullmatch("a" * 64 + "/" + fill("1")), "plain_http_turns.POSITION"
    ),
    Row("a position in plain HTTP: a turn", lambda: POSITION.fullmatch(fill("a.")), "plain_http_turns.POSITION"),
    Row(
        "a dialect's position",
        lambda: convert_request(StreamGet, {"stream": "t", "from": fill("1")}),
        "StreamGet.start",
    ),
    Row("a query", lambda: parse_query(filled(b"a=%41&"), ("a",))),
    Row("a query: a credential", lambda: _parse_query(filled(b"a=%41&"))),
    Row("a query: a value", lambda: _parse_query(b"a=" + filled(b"%41"))),
    Row("a key", lambda: ApiKeys("/dev/null").credential("tw_" + fill("a")), "api_keys._KEY"),
    Row("a token", lambda: token_read(fill("a."))),
    Row("a time", lambda: from_rfc3339(fill("2026-"))),
]

NO_EXTERNAL_INPUT = {
    "gateway.commands.unknown_variables._KUBERNETES": "names of the operator's environment variables",
    "gateway.commands.env_file._NAME": "the operator's file",
    "gateway.http.openapi._parameters": "the paths of our own operations",
    "gateway.http.openapi.ServerSentEvent.id": "used for the document only",
    "gateway.http.page_bundle._COMMENT": "our own files",
    "gateway.http.page_bundle._EXPORTED": "our own files",
    "gateway.http.page_bundle._EXPORTED_LIST": "our own files",
    "gateway.http.page_bundle._IMPORT": "our own files",
    "gateway.http.page_bundle._RELATIVE": "our own files",
    "gateway.http.page_bundle._UNKNOWN": "our own files",
    "gateway.setting_values.normalize_path": "the operator's setting",
    "gateway.setting_values._ORIGIN": "the operator's setting",
    "providers.catalog.endpoints._SCHEME": "the operator's keys",
    "providers.catalog.endpoints._VARIABLE": "the operator's file and our catalog",
    "store.redis.store._check_version": "what the operator's Redis reports at the start",
    "store.redis.store._policy": "what the operator's Redis reports at the start",
    "store.redis.target.PLAIN_OPTIONS": "the operator's setting",
    "store.redis.target._SEVERAL": "the operator's setting",
    "store.connect.has_password": "the operator's setting",
    "store.redis.scripts._USES": "our own scripts",
}
"""Patterns that never see external input."""


def image(url: str) -> ImagePart:
    return ImagePart("image/png", url=url)


def spent_s(call: Callable[[], object]) -> float:
    """Return the CPU time that the call takes in this thread, whether or not its input is rejected."""
    began = time.thread_time()
    try:
        call()
    except REFUSALS:
        pass
    return time.thread_time() - began


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_worst_case_input_of_one_megabyte(row: Row) -> None:
    """The input is read or rejected within the bound, which only linear code meets."""
    assert spent_s(row.call) < BOUND_S * (10 if sys.gettrace() else 1), "too slow (10 times the bound under a tracer)"


ROOT = Path(__file__).parents[2]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules of the three packages, by dotted name."""
    for package in ("gateway", "providers", "store"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name, ast.parse(path.read_text("utf-8"))


def calls_with_owner(node: ast.AST, owner: str) -> Iterator[tuple[ast.Call, str]]:
    """Yield every call in `node` with the function that contains it, or else the name that it is assigned to."""
    for inner in ast.iter_child_nodes(node):
        name = owner
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{owner}.{inner.name}"
        elif isinstance(inner, ast.Assign | ast.AnnAssign) and isinstance(node, ast.Module | ast.ClassDef):
            targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
            name = ".".join([owner, *(target.id for target in targets if isinstance(target, ast.Name))])
        if isinstance(inner, ast.Call):
            yield inner, owner
        yield from calls_with_owner(inner, name)


@cache
def calls() -> tuple[tuple[ast.Call, str], ...]:
    """Return every call in the three packages."""
    return tuple((call, name) for module, tree in modules() for call, name in calls_with_owner(tree, module))


def is_of(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == name


def is_pattern(call: ast.Call) -> bool:
    """Return whether a call is of `re` or sets a wire type's pattern. Pydantic's patterns are for operator input."""
    return is_of(call, "re") or (
        ast.unparse(call.func) == "Meta" and any(given.arg == "pattern" for given in call.keywords)
    )


def test_every_pattern_has_a_row() -> None:
    """Every regular expression is in a row or never sees external input."""
    found = {name for call, name in calls() if is_pattern(call)}
    ends = {name for row in ROWS for name in row.reads.split()}
    patterns_by_suffix = {end: [one for one in found if f".{one}".endswith(f".{end}")] for end in ends}
    assert all(len(ones) == 1 for ones in patterns_by_suffix.values()), (
        "a row names a pattern that doesn't exist or isn't unique"
    )
    assert found - {one for ones in patterns_by_suffix.values() for one in ones} == NO_EXTERNAL_INPUT.keys()


def test_every_json_decoder_has_a_float_hook() -> None:
    """JSON is only decoded with a `float_hook`: msgspec alone takes 14 µs for a number at the end of the range."""
    made = [(call, name) for call, name in calls() if ast.unparse(call.func) == "msgspec.json.Decoder"]
    assert made
    assert not [name for call, name in made if "float_hook" not in [given.arg for given in call.keywords]]
    assert not [name for call, name in calls() if ast.unparse(call.func) == "msgspec.json.decode"]
