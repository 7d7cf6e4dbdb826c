"""Chat Completions chunks are decoded to deltas, without a network."""

import json
from decimal import Decimal
from typing import Any

import pytest

from providers.base import PartDelta, ProviderError, Usage
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.http.sse import InvalidEvent, SseParser
from providers.openai.chat_chunks import ChatDecoder
from providers.quirks import Quirks
from tests.answers import STREAMS, Answer, decode_named, unnamed

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))


def decode(*events: dict[str, Any] | bytes, **quirks: Any) -> Answer:
    """Return the answer that these deltas, chunks or raw events decode to."""
    chunks = (event if is_chunk(event) else {"choices": [{"delta": event}]} for event in events)
    return decode_named(ChatDecoder(Quirks(**quirks), FAILURES), unnamed(chunks))


def is_chunk(event: dict[str, Any] | bytes) -> bool:
    """Return whether this is a raw event or a whole chunk, and not only a delta."""
    return isinstance(event, bytes) or "choices" in event or "error" in event


def finish(reason: str | None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {}, "finish_reason": reason, **more}]}


def usage(**counts: Any) -> dict[str, Any]:
    return {"choices": [], "usage": counts}


def call(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}


def test_finish_reasons() -> None:
    """A finish reason is mapped as in `finish_reasons.py`."""
    assert decode({"content": "a"}, finish("SAFETY")).finish == "content_filter"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("insufficient_system_resource", "upstream_overloaded"),
        ("network_error", "upstream_error"),
        ("abort", "upstream_error"),
    ],
)
def test_finish_reason_that_reports_a_failure(reason: str, code: str) -> None:
    """A finish reason that reports a failure is an error, and the text until then is kept."""
    answer = decode({"content": "a"}, finish(reason))
    assert (answer.code, answer.text(), answer.finish) == (code, "a", None)


@pytest.mark.parametrize("reason", [None, "", "null", "none", "unset", "something_new"])
def test_missing_finish_reason(reason: str | None) -> None:
    """A stream that ends without a known finish reason is incomplete, even with the end mark."""
    assert decode({"content": "a"}, finish(reason)).code == "upstream_incomplete"
    assert decode({"content": "a"}, finish(reason), b"[DONE]").code == "upstream_incomplete"
    assert decode().code == "upstream_incomplete"


def test_quirk_ends_without_finish() -> None:
    """With this quirk, an answer with content may end without a finish reason."""
    assert decode({"content": "a"}, ends_without_finish=True).finish == "stop"
    assert decode(ends_without_finish=True).code == "upstream_incomplete"


def test_second_finish_reason() -> None:
    """A second finish reason replaces the first one and doesn't end the answer twice."""
    answer = decode({"content": "a"}, finish("stop"), finish("length"), b"[DONE]")
    assert answer.finish == "length"


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "why"},
        {"reasoning": "why"},
        {"reasoning_content": "why", "reasoning": "why"},
        {"reasoning": "why", "reasoning_details": [{"type": "reasoning.text", "text": "why"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "why"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "why"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}]},
        {"content": [{"type": "thinking", "thinking": "why"}]},
    ],
)
def test_reasoning(delta: dict[str, Any]) -> None:
    """Reasoning is found in every field that providers use, and it isn't duplicated."""
    answer = decode(delta, {"content": "so", "reasoning_content": None}, finish("stop"))
    assert answer.parts == [("reasoning", "why"), ("text", "so")]


def test_reasoning_signature() -> None:
    """A signature belongs to its reasoning part. An encrypted block is redacted reasoning."""
    details = [{"type": "reasoning.text", "text": "why", "signature": "s1"}]
    answer = decode({"reasoning_details": details}, {"content": "so"}, finish("stop"))
    assert answer.signatures == {0: "s1"}
    answer = decode({"reasoning_details": [{"type": "reasoning.encrypted", "data": "d"}]}, finish("stop"))
    assert (answer.parts, answer.signatures) == ([("reasoning", "")], {0: "d"})
    assert answer.started[0].redacted


def test_think_tags() -> None:
    """With this quirk, think tags in the text are reasoning. Without it, they are text."""
    pieces = [{"content": "<thi"}, {"content": "nk>why</think>\n\nso"}, finish("stop")]
    assert decode(*pieces, think_tags=True).parts == [("reasoning", "why"), ("text", "so")]
    assert decode(*pieces).text() == "<think>why</think>\n\nso"
    assert decode({"content": "<think>wh"}, {"content": "y</"}, finish("length"), think_tags=True).parts == [
        ("reasoning", "why</")
    ]


def test_refusal() -> None:
    """A refusal is a part of its own, and the finish reason is `refusal`."""
    answer = decode({"refusal": "I "}, {"refusal": "can't."}, finish("stop"))
    assert (answer.parts, answer.finish) == ([("refusal", "I can't.")], "refusal")


def test_parallel_calls() -> None:
    """Pieces of parallel calls are assigned by index, and empty ids and names are ignored."""
    answer = decode(
        call(0, "a", "f", ""),
        call(1, "b", "g", "{"),
        call(0, "", "", "{}"),
        call(1, None, None, "}"),
        finish("stop"),
    )
    assert answer.parts == [("tool_call", "{}"), ("tool_call", "{}")]
    assert [(part.call, part.name) for part in answer.started] == [("a", "f"), ("b", "g")]
    assert answer.finish == "tool_calls"


def test_text_after_a_call() -> None:
    """Text that arrives after a call is a part after the call's part, even if the call has no arguments yet.

    Missing arguments become `{}`, but only if the answer is complete.
    """
    answer = decode(call(0, "a", "f", ""), {"content": "b"}, finish("tool_calls"))
    assert answer.parts == [("tool_call", "{}"), ("text", "b")]
    assert decode(call(0, "a", "f", "{"), finish("abort")).parts == [("tool_call", "{")]
    incomplete = decode(call(0, "a", "f", ""))
    assert (incomplete.code, incomplete.parts) == ("upstream_incomplete", [])


def test_the_legacy_function_call() -> None:
    """The legacy `function_call` field is decoded as a tool call."""
    pieces = [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": '{"x":1}'}}]
    answer = decode(*pieces, finish("function_call"))
    assert (answer.parts, answer.finish) == ([("tool_call", '{"x":1}')], "tool_calls")
    assert (answer.started[0].call, answer.started[0].name) == ("call_0", "f")


def test_arguments_as_an_object() -> None:
    """Arguments that are an object are encoded as JSON."""
    assert decode(call(0, "a", "f", {"x": 1}), finish("tool_calls")).parts == [("tool_call", '{"x": 1}')]


@pytest.mark.parametrize(
    ("counts", "quirks", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, {}, Usage(9, 4)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 8},
            {},
            Usage(9, 4, cache_read_tokens=8),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 0},
            {},
            Usage(9, 4, cache_read_tokens=0),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            {"usage_excludes_reasoning": True},
            Usage(9, 9, reasoning_tokens=5, cache_read_tokens=3, cache_write_tokens=2),
        ),
        ({"prompt_tokens": None, "completion_tokens": "x", "prompt_tokens_details": None}, {}, Usage(0, 0)),
    ],
)
def test_usage(counts: dict[str, Any], quirks: dict[str, Any], expected: Usage) -> None:
    """Usage is decoded under every provider's field names, in a last chunk or inside the choice."""
    assert decode({"content": "a"}, finish("stop"), usage(**counts), **quirks).usage == expected
    assert decode({"content": "a"}, finish("stop", usage=counts), **quirks).usage == expected


@pytest.mark.parametrize(
    ("cost", "expected"),
    [(0.000669, "0.000669"), (0, "0"), (3, "3"), (-1, None), ("x", None), (None, None), (1e-7, "1E-7")],
)
def test_reported_cost(cost: object, expected: str | None) -> None:
    """The cost is read exactly as written, and only from a provider that reports dollars."""
    counts = usage(prompt_tokens=1, completion_tokens=1, cost=cost)
    found = decode({"content": "a"}, finish("stop"), counts, usage_has_cost=True).cost
    assert found == (None if expected is None else Decimal(expected))
    assert decode({"content": "a"}, finish("stop"), counts).cost is None


def test_larger_counts_replace_smaller_ones() -> None:
    """Of several usage reports, each count has its largest value."""
    answer = decode(
        usage(prompt_tokens=1, completion_tokens=1),
        {"content": "a"},
        finish("stop"),
        usage(prompt_tokens=1, completion_tokens=7),
    )
    assert answer.usage == Usage(1, 7)


def test_error_comes_before_choices() -> None:
    """A chunk with an error is an error even if it has choices, and its usage is kept."""
    chunk = {"error": {"code": 502, "message": "x"}, **usage(prompt_tokens=3, completion_tokens=1)}
    answer = decode({"content": "a"}, chunk)
    assert (answer.code, answer.usage, answer.text()) == ("upstream_error", Usage(3, 1), "a")


@pytest.mark.parametrize("data", [b'{"error": {"code": 503}}', b'{"message": "over_capacity", "code": 503}'])
def test_error_event(data: bytes) -> None:
    """An event named `error` is an error, whatever its data."""
    with pytest.raises(ProviderError) as caught:
        ChatDecoder(Quirks(), FAILURES).decode_event("error", data)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        ({"object": "error", "message": "x", "type": "BadRequestError", "param": None, "code": 400}, "invalid_request"),
        ({"error_code": 336100, "error_msg": "server is busy"}, "upstream_overloaded"),
        ({"error": True, "message": "rate limit reached"}, "upstream_rate_limited"),
        ({"choices": [], "error": 1, "message": "overloaded"}, "upstream_overloaded"),
        ({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "upstream_rate_limited"),
        ({"choices": [], "base_resp": {"status_code": 1008, "status_msg": "x"}}, "upstream_rate_limited"),
        (
            {"choices": [], "error": False, "base_resp": {"status_code": 1002, "status_msg": "x"}},
            "upstream_rate_limited",
        ),
        ({"error": [{"code": 503, "message": "x"}]}, "upstream_overloaded"),
        ({"code": 1302, "msg": "concurrency too high", "success": False}, "upstream_rate_limited"),
        ({"code": "Throttling", "message": "Requests throttled"}, "upstream_rate_limited"),
        (
            {"choices": [{"delta": {}, "error": {"code": 429, "message": "x"}, "finish_reason": "error"}]},
            "upstream_rate_limited",
        ),
    ],
)
def test_other_error_formats(chunk: dict[str, Any], code: str) -> None:
    """The error formats of vLLM, Qianfan, DashScope and OpenRouter (inside a choice) are recognized with status 200."""
    assert decode({"content": "a"}, json.dumps(chunk).encode()).code == code


@pytest.mark.parametrize(
    "data", [b'{"type": "ping"}', b'{"id": "x", "object": "chat.completion.chunk"}', b'{"message": "m"}']
)
def test_other_events_are_skipped(data: bytes) -> None:
    """An event that is neither a chunk nor an error is skipped."""
    assert decode({"content": "a"}, data, finish("stop")).finish == "stop"


@pytest.mark.parametrize("mark", [b"[DONE]", b" [DONE]", b"[DONE] ", b'"[DONE]"'])
def test_end_marks(mark: bytes) -> None:
    """The end mark may have white space or quotes around it."""
    assert decode({"content": "a"}, finish("stop"), mark).finish == "stop"


def test_other_choices_are_skipped() -> None:
    """A choice other than the first is skipped, because only one is requested."""
    assert decode({"choices": [{"index": 1, "delta": {"content": "b"}}]}, {"content": "a"}, finish("stop")).parts == [
        ("text", "a")
    ]


def test_unknown_fields_are_skipped() -> None:
    """Fields that aren't used may have any value."""
    answer = decode({"content": "a", "new": [1], "role": 7}, {"choices": None}, finish("stop"))
    assert (answer.text(), answer.finish) == ("a", "stop")


def test_split_surrogate_pair() -> None:
    """A surrogate pair that is split across two chunks is joined. A lone surrogate and invalid UTF-8 are replaced."""
    halves = [b'{"choices":[{"delta":{"content":"%s"}}]}' % half for half in (b"a\\ud83c", b"\\udf40b")]
    assert decode(*halves, finish("stop")).text() == "a🍀b"
    assert decode(halves[0], finish("stop")).text() == "a\ufffd"
    raw = '{"choices":[{"delta":{"content":"é"}}]}'.encode()
    assert decode(raw.replace(b"\xa9", b""), finish("stop")).text() == "\ufffd"


def test_merged_chunks() -> None:
    """Two chunks in one event are both decoded."""
    one, two = (json.dumps({"choices": [{"delta": {"content": text}}]}).encode() for text in "ab")
    assert decode(one + b"\n" + two, finish("stop")).text() == "ab"


@pytest.mark.parametrize("data", [b'{"choices": [{"del', b"5", b"[1]", b"nonsense"])
def test_invalid_chunks(data: bytes) -> None:
    """A chunk that can't be parsed raises `InvalidEvent`."""
    with pytest.raises(InvalidEvent):
        ChatDecoder(Quirks(), FAILURES).decode_event(None, data)


@pytest.mark.parametrize(
    ("file", "parts", "finish_reason", "code"),
    [
        ("chat_kimi_reasoning", [("reasoning", "Two and two."), ("text", "It's four 🍀.")], "stop", None),
        (
            "chat_mistral_list_content",
            [("reasoning", "The sky is blue."), ("text", "Look up.")],
            "length",
            None,
        ),
        ("chat_parallel_tools", [("tool_call", '{"city":"Bern"}'), ("tool_call", "{}")], "tool_calls", None),
        ("chat_error_event", [("reasoning", "Let me ")], None, "upstream_error"),
    ],
)
def test_streams(file: str, parts: list[tuple[str, str]], finish_reason: str | None, code: str | None) -> None:
    """A stream in a provider's documented format is decoded to the expected answer."""
    events = SseParser().feed((STREAMS / f"{file}.sse").read_bytes())
    answer = decode_named(ChatDecoder(Quirks(), FAILURES), events, drains=False)
    assert (answer.parts, answer.finish, answer.code) == (parts, finish_reason, code)


def test_one_delta_per_read() -> None:
    """The pieces of one read for one part are one delta."""
    decoder = ChatDecoder(Quirks(), FAILURES)
    for text in "abc":
        decoder.decode_event(None, json.dumps({"choices": [{"delta": {"content": text}}]}).encode())
    assert decoder.parts.drain()[1:] == [PartDelta(0, "abc")]


def test_citations() -> None:
    """Citations are found in annotations of the text and in lists of URLs, and each page is cited once."""
    annotated = {
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://u", "title": "T"}}, {"type": "x"}]
    }
    answer = decode({"content": "a"}, annotated, {"content": "b"}, finish("stop"))
    assert answer.parts == [("text", "ab"), ("citation", "")]
    assert (answer.started[1].url, answer.started[1].title) == ("https://u", "T")
    beside = [
        {"choices": [{"delta": {"content": "a"}}], "citations": ["https://u1"]},
        {
            "choices": [{"delta": {}, "finish_reason": "stop"}],
            "citations": ["https://u1", "javascript:alert(1)", "http://u2"],
        },
    ]
    assert [part.url for part in decode(*beside).started[1:]] == ["https://u1", "http://u2"]


def test_google_thought_signature() -> None:
    """The thought signature of a call belongs to that call, wherever it is in the stream."""
    signed = {"index": 0, "extra_content": {"google": {"thought_signature": "sig"}}}
    first = call(0, "c1", "f", "{}")
    first["tool_calls"][0] |= {"extra_content": {"google": {"thought_signature": "s1"}}}
    assert decode(first, finish("tool_calls")).signatures == {0: "s1"}
    assert decode(call(0, "c1", "f", "{}"), {"tool_calls": [signed]}, finish("tool_calls")).signatures == {0: "sig"}


def test_reasoning_details_are_kept_as_signatures() -> None:
    """With this quirk, a part's signature is its encrypted or signed detail, as JSON without the text."""
    answer = decode(
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "why"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "d", "id": "rs_1", "format": "openai"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e"}]},
        finish("stop"),
        reasoning_details=True,
    )
    assert answer.parts == [("reasoning", "why"), ("reasoning", "")]
    assert {part: json.loads(signature) for part, signature in answer.signatures.items()} == {
        0: {"type": "reasoning.encrypted", "data": "d", "id": "rs_1", "format": "openai"},
        1: {"type": "reasoning.encrypted", "data": "e"},
    }


@pytest.mark.parametrize(
    "content",
    [
        "ab",
        ["a", "b"],
        [{"type": "text", "text": "a"}, "b"],
        {"type": "text", "text": "ab"},
        [{"text": "ab"}, {"x": 1}],
    ],
)
def test_content_formats(content: Any) -> None:
    """Content is decoded as a string, as a list of pieces, or as one object."""
    assert decode({"content": content}, finish("stop")).parts == [("text", "ab")]


def test_fields_of_another_type() -> None:
    """A field with a value of another type is ignored."""
    chunk = {"choices": [{"index": "0", "delta": {"content": "a", "reasoning": {"effort": 1}}}], "usage": "none"}
    assert decode(chunk, finish("stop")).parts == [("text", "a")]
