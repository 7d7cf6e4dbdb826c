"""Reasoning in every shape that hosts use, split anywhere: it is added once, and never as the answer."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from providers.base import PartsWithdrawn, TextPart
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.reasoning import RECORD_MAX
from providers.quirks import Quirks
from providers.think_tags import ANSWER_RESTATED, REASONING_RESTATED, TAGS
from providers.thoughts import thought_text
from tests.answers import Answer
from tests.examples import examples
from tests.provider_requests import chat_request

FAILURES = Failures(Endpoint("vllm", "vLLM", "", ()))
Delta = dict[str, Any]

TEXTS = st.text(st.sampled_from("ab<>/thinkTHINK {}.\n🙂é"), min_size=1, max_size=40)
THOUGHTS = TEXTS.map(lambda text: "So " + text.rstrip() + " yes.")
ANSWERS = TEXTS.map(lambda text: "Hello " + text.replace("<think", "<th").replace("</", "<"))
WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=20)


def decode(deltas: Iterable[Delta], *, drains: bool = True, finish: str | None = "stop", **quirks: Any) -> Answer:
    """Return the answer that these deltas decode to. `drains`: the parts are taken after each delta, not at the end."""
    decoder = ChatDecoder(Quirks(**quirks), FAILURES)
    answer = Answer()
    for delta in deltas:
        decoder.decode_event(None, json.dumps({"choices": [{"delta": delta}]}).encode())
        if drains:
            answer.add(decoder.parts.drain())
    if finish:
        decoder.decode_event(None, json.dumps({"choices": [{"delta": {}, "finish_reason": finish}]}).encode())
    decoder.end()
    answer.add(decoder.parts.drain())
    return answer


def cut(text: str, weights: list[int]) -> list[str]:
    """Return `text` in pieces, whose sizes are `weights`, again and again."""
    pieces: list[str] = []
    at = turn = 0
    while at < len(text):
        size = weights[turn % len(weights)]
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def said(answer: Answer) -> tuple[str, str]:
    return answer.text("reasoning"), answer.text()


def summary(text: str) -> Delta:
    return {"type": "summary_text", "text": text}


SHAPES: dict[str, Callable[[str], Delta]] = {
    "reasoning_content": lambda t: {"reasoning_content": t},
    "reasoning": lambda t: {"reasoning": t},
    "reasoning_text": lambda t: {"reasoning_text": t},
    "thinking": lambda t: {"thinking": t},
    "thinking_blocks": lambda t: {"thinking_blocks": [{"type": "thinking", "thinking": t}]},
    "an object with content": lambda t: {"reasoning": {"content": t}},
    "an object with text": lambda t: {"thinking": {"text": t}},
    "an object with a summary": lambda t: {"reasoning": {"effort": "high", "summary": [summary(t)]}},
    "a list of texts": lambda t: {"reasoning_content": [t]},
    "a list of objects": lambda t: {"reasoning": [{"type": "text", "text": t}]},
    "content: thinking": lambda t: {"content": [{"type": "thinking", "thinking": t}]},
    "content: thinking, list": lambda t: {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": t}]}]},
    "content: thinking, text": lambda t: {"content": [{"type": "thinking", "text": t}]},
    "content: reasoning": lambda t: {"content": [{"type": "reasoning", "reasoning": t}]},
    "content: reasoning, text": lambda t: {"content": [{"type": "reasoning", "text": t}]},
    "content: reasoning, content": lambda t: {"content": [{"type": "reasoning", "content": [{"text": t}]}]},
    "content: reasoning, summary": lambda t: {"content": [{"type": "reasoning", "summary": [summary(t)]}]},
    "content: reasoning_text": lambda t: {"content": [{"type": "reasoning_text", "text": t}]},
    "content: reasoning_text, own name": lambda t: {"content": [{"type": "reasoning_text", "reasoning_text": t}]},
    "content: summary_text": lambda t: {"content": [summary(t)]},
    "content: no type": lambda t: {"content": [{"thinking": t}]},
    "content: an object": lambda t: {"content": {"type": "reasoning", "text": t}},
    "details": lambda t: {"reasoning_details": [{"type": "reasoning.text", "text": t}]},
    "details: summary": lambda t: {"reasoning_details": [{"type": "reasoning.summary", "summary": t}]},
    "details: an object": lambda t: {"reasoning_details": {"type": "reasoning.text", "text": t}},
    "marked by Google": lambda t: {"content": t, "extra_content": {"google": {"thought": True}}},
    "two fields": lambda t: {"reasoning": t, "reasoning_content": t},
    "all fields": lambda t: dict.fromkeys(["reasoning", "reasoning_content", "reasoning_text", "thinking"], t),
    "a field and details": lambda t: {"reasoning": t, "reasoning_details": [{"type": "reasoning.text", "text": t}]},
    "a field and content": lambda t: {"reasoning": t, "content": [{"type": "reasoning", "text": t}]},
    "two accounts": lambda t: {"reasoning_content": t, "reasoning": "#" + t},
}
FIELDS = [
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "details",
    "content: reasoning",
    "details: summary",
]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@settings(max_examples=examples(15))
@given(THOUGHTS, ANSWERS, WEIGHTS, st.booleans(), st.booleans())
def test_each_shape(
    shape: Callable[[str], Delta], thought: str, answer: str, sizes: list[int], is_list: bool, think_tags: bool
) -> None:
    """The reasoning and the answer are those that were sent, whatever the shape and the pieces."""
    texts: list[Delta] = [{"content": [{"type": "text", "text": t}] if is_list else t} for t in cut(answer, sizes)]
    found = decode([*map(shape, cut(thought, sizes)), *texts], think_tags=think_tags)
    assert said(found) == (thought, answer)
    assert [kind for kind, _ in found.parts] == ["reasoning", "text"]
    assert not found.withdrawn


@given(THOUGHTS, ANSWERS, WEIGHTS, WEIGHTS, st.permutations(FIELDS), st.randoms())
def test_a_repetition_in_other_chunks(
    thought: str, answer: str, sizes: list[int], other_sizes: list[int], fields: list[str], random: Any
) -> None:
    """A field that repeats another one, earlier or later and in other pieces, adds nothing."""
    one, two = (
        [SHAPES[field](t) for t in cut(thought, s)] for field, s in zip(fields, (sizes, other_sizes), strict=False)
    )
    mixed: list[Delta] = []
    while one or two:
        mixed.append((one if not two or (one and random.random() < 0.5) else two).pop(0))
    assert said(decode([*mixed, {"content": answer}])) == (thought, answer)


@given(THOUGHTS, ANSWERS, WEIGHTS, st.permutations(FIELDS), st.booleans())
def test_a_repetition_as_a_whole(thought: str, answer: str, sizes: list[int], fields: list[str], late: bool) -> None:
    """A field that repeats everything at the end of the reasoning, or of the answer, adds nothing."""
    pieces, whole = [SHAPES[fields[0]](t) for t in cut(thought, sizes)], SHAPES[fields[1]](thought)
    deltas = [*pieces, {"content": answer}, whole] if late else [*pieces, whole, {"content": answer}]
    assert said(decode(deltas)) == (thought, answer)


@given(THOUGHTS, WEIGHTS, st.integers(1, 3))
def test_details_that_grow(thought: str, sizes: list[int], times: int) -> None:
    """Each detail may be the whole reasoning so far, and may be sent again."""
    pieces = cut(thought[5:], sizes)
    growing = [thought[:5] + "".join(pieces[:count]) for count in range(len(pieces) + 1)]
    deltas = [SHAPES["details"](text) for text in growing for _ in range(times)]
    assert said(decode([*deltas, {"content": "Hello"}])) == (thought, "Hello")


@pytest.mark.parametrize(("open_tag", "close_tag"), TAGS.items())
@settings(max_examples=examples(15))
@given(THOUGHTS, ANSWERS, WEIGHTS, st.booleans(), st.booleans())
def test_tags(
    open_tag: str, close_tag: str, thought: str, answer: str, sizes: list[int], upper: bool, beside: bool
) -> None:
    """Tags at the start are split off, wherever the text is cut, also if a field repeats the reasoning."""
    thought = thought.replace("</", "<")
    open_tag, close_tag = (open_tag.upper(), close_tag.upper()) if upper else (open_tag, close_tag)
    deltas: list[Delta] = [{"content": piece} for piece in cut(f"{open_tag}{thought}{close_tag}\n\n{answer}", sizes)]
    if beside:
        for delta, piece in zip(deltas, cut(thought, sizes), strict=False):
            delta["reasoning_content"] = piece
    assert said(decode(deltas, think_tags=True)) == (thought, answer)


@given(THOUGHTS, ANSWERS, WEIGHTS, st.sampled_from(["</think>", "</thinking>"]), st.booleans(), st.booleans())
def test_a_closing_tag_alone(thought: str, answer: str, sizes: list[int], tag: str, drains: bool, known: bool) -> None:
    """If the prompt has the opening tag, all before the closing tag is reasoning.

    What was sent as text is withdrawn, unless the model is known to begin with reasoning.
    """
    thought = thought.replace("</", "<").replace("<think", "<th")
    pieces = cut(f"{thought}\n{tag}\n\n{answer}", sizes)
    if known:
        pieces = cut(f"{thought}\n</think>\n\n{answer}", sizes)
    found = decode([{"content": piece} for piece in pieces], drains=drains, think_tags=True, think_opened=known)
    assert said(found) == (thought + "\n", answer)
    assert [kind for kind, _ in found.parts] == ["reasoning", "text"]
    if known or not drains:
        assert not found.withdrawn


@given(ANSWERS, WEIGHTS, st.booleans())
def test_a_known_model_that_does_not_think(answer: str, sizes: list[int], drains: bool) -> None:
    """If no tag comes from a model that usually begins with reasoning, everything was the answer."""
    deltas: list[Delta] = [{"content": piece} for piece in cut(answer, sizes)]
    assert said(decode(deltas, drains=drains, think_tags=True, think_opened=True)) == ("", answer)
    assert said(decode(deltas, finish="length", think_tags=True, think_opened=True)) == (answer, "")


@pytest.mark.parametrize(
    ("contents", "known", "reason"),
    [(["I think.", "</think>Hello"], False, REASONING_RESTATED), (["Hello"], True, ANSWER_RESTATED)],
)
def test_the_reason_for_a_withdrawal(contents: list[str], known: bool, reason: str) -> None:
    """The reason says whether reasoning was taken for the answer, or the answer for reasoning."""
    decoder = ChatDecoder(Quirks(think_tags=True, think_opened=known), FAILURES)
    deltas = []
    for content in contents:
        decoder.decode_event(None, json.dumps({"choices": [{"delta": {"content": content}}]}).encode())
        deltas += decoder.parts.drain()
    decoder.decode_event(None, b'{"choices":[{"delta":{},"finish_reason":"stop"}]}')
    decoder.end()
    deltas += decoder.parts.drain()
    assert [delta.reason for delta in deltas if isinstance(delta, PartsWithdrawn)] == [reason]


@pytest.mark.parametrize(
    "text",
    [
        "Models write `</think>` after their thoughts.",
        'The tag "</think>" ends it.',
        "The tag </think> ends it.",
        "```xml\n</think>\n```\nThat is all.",
        "```\nlong(`</think>`)\n</think>\n```",
        "First <think>, then </think>\n\nThat is the order.",
        "A text <think>with both</think> tags.",
        "x < y, </thin, <think",
        "<b>bold</b>",
    ],
)
@settings(max_examples=examples(10))
@given(WEIGHTS)
def test_a_tag_in_the_middle_is_text(text: str, sizes: list[int]) -> None:
    """An answer about such tags, or with them in code, stays as it is."""
    assert said(decode([{"content": piece} for piece in cut(text, sizes)], think_tags=True)) == ("", text)


def test_a_closing_tag_after_something_else_is_text() -> None:
    """What was sent is withdrawn only if it can be added again: not after a tool call, a signature or a citation."""
    call = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    cited = {"annotations": [{"url_citation": {"url": "https://a.example"}}]}
    signed = {"reasoning_details": [{"text": "why", "signature": "s"}]}
    for other in (call, cited, signed):
        found = decode([{"content": "One"}, other, {"content": "\n</think>\nTwo"}], think_tags=True)
        assert (found.text(), found.withdrawn) == ("One\n</think>\nTwo", [])


def test_a_continued_answer_is_not_withdrawn() -> None:
    """The parts of an interrupted answer stay, so a closing tag in its continuation is text."""
    request = chat_request("Hi").continuing([])
    assert ChatDecoder(Quirks(think_tags=True), FAILURES, request)._tags is not None
    decoder = ChatDecoder(Quirks(think_tags=True, think_opened=True), FAILURES, request.continuing([TextPart("One")]))
    decoder.decode_event(None, b'{"choices":[{"delta":{"content":" two\\n</think>\\nthree"},"finish_reason":"stop"}]}')
    answer = Answer()
    decoder.end()
    answer.add(decoder.parts.drain())
    assert said(answer) == ("", " two\n</think>\nthree")


def test_effort_none_is_not_opened() -> None:
    """If the request turns reasoning off, the text of a model that usually begins with reasoning is the answer at once."""
    for effort, kind in (("none", "text"), ("high", "reasoning")):
        quirks = Quirks(think_tags=True, think_opened=True)
        decoder = ChatDecoder(quirks, FAILURES, chat_request("Hi", reasoning=effort))
        decoder.decode_event(None, b'{"choices":[{"delta":{"content":"Hello"}}]}')
        assert decoder.parts.last_kind == kind


@pytest.mark.parametrize("known", [True, False])
def test_a_continuation_withdraws_nothing(known: bool) -> None:
    """The parts of the interrupted answer stay, whatever the model that continues it says about its reasoning."""
    request = structs.replace(chat_request("Hi"), is_continuation=True)
    decoder = ChatDecoder(Quirks(think_tags=True, think_opened=known), FAILURES, request)
    deltas = []
    for content in ("I think.", "</think>More"):
        decoder.decode_event(None, json.dumps({"choices": [{"delta": {"content": content}}]}).encode())
        deltas += decoder.parts.drain()
    assert not any(isinstance(delta, PartsWithdrawn) for delta in deltas)
    assert decoder.parts.kinds == ({"reasoning", "text"} if known else {"text"})


def test_a_field_shows_that_the_text_is_the_answer() -> None:
    """A host that sends the reasoning in a field has removed the tags, except perhaps a closing tag."""
    for content in ("Hello", "</think>\n\nHello", "\n</think>Hello"):
        found = decode([{"reasoning": "why"}, {"content": content}], think_tags=True, think_opened=True)
        assert (said(found), found.withdrawn) == (("why", "Hello"), [])


def test_a_closing_tag_alone_beside_a_field() -> None:
    """If the text and a field have the same reasoning, it is added once."""
    found = decode(
        [
            {"content": "I think", "reasoning": "I think"},
            {"content": " so.", "reasoning": " so."},
            {"content": "</think>A"},
        ],
        think_tags=True,
    )
    assert said(found) == ("I think so.", "A")


def test_a_closing_tag_alone_beside_other_reasoning() -> None:
    """If the text and a field have different reasoning, both are added."""
    found = decode([{"reasoning": "One."}, {"content": "Two."}, {"content": "\n</think>A"}], think_tags=True)
    assert said(found) == ("One.Two.\n", "A")


@given(st.lists(st.sampled_from(["a", "b", " ", "\n", "  "]), min_size=1, max_size=30), st.randoms())
def test_other_white_space_in_a_repetition(pieces: list[str], random: Any) -> None:
    """A repetition whose white space differs adds no words."""
    words = "why " + "".join(pieces) + " so"
    other = "".join(c + random.choice(["", "", " "]) if c.isspace() else c for c in words)
    found = decode([{"reasoning": words}, *({"thinking": piece} for piece in cut(other, [1, 3])), {"content": "A"}])
    assert said(found) == (words, "A")


def test_another_field_goes_on() -> None:
    """A host that changes the field in the middle repeats nothing, so everything is added."""
    found = decode([{"reasoning": "I think"}, {"reasoning_content": " so."}, {"thinking": " Yes."}, {"content": "A"}])
    assert said(found) == ("I think so. Yes.", "A")


def test_several_rounds() -> None:
    """Each round of reasoning is a part of its own, and details repeat each of them, or only the last one."""
    details = SHAPES["details"]
    for repeated in (["One is long.", "Two is long."], ["Two is long."]):
        deltas: list[Delta] = [{"reasoning": "One is long."}, {"content": "a"}, {"reasoning": "Two is long."}]
        found = decode([*deltas, *map(details, repeated), {"content": "b"}])
        assert [text for _, text in found.parts] == ["One is long.", "a", "Two is long.", "b"]


def test_a_late_signature() -> None:
    """The signature of a repeated detail belongs to the part that it repeats, even after the answer has begun."""
    signed: Delta = {"reasoning_details": [{"type": "reasoning.text", "text": "why not", "signature": "s"}]}
    thought: Delta = {"reasoning": "why not"}
    answer: Delta = {"content": "A"}
    for deltas in ([thought, signed, answer], [thought, answer, signed]):
        found = decode(deltas)
        assert (found.parts, found.signatures) == ([("reasoning", "why not"), ("text", "A")], {0: "s"})


def test_very_long_reasoning() -> None:
    """The comparison is bounded: beyond it, another field adds nothing, and nothing is withdrawn."""
    thought = "why " * (RECORD_MAX // 4 + 1)
    found = decode([{"reasoning": thought}, {"thinking": thought}, {"thinking": "more"}, {"content": "A\n</think>\nB"}])
    assert said(found) == (thought, "A\n</think>\nB")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (True, ""),
        (7, ""),
        ({"effort": "high"}, ""),
        ({"thinking": "a", "text": "a"}, "a"),
        ([{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}], "a\n\nb"),
        ([{"type": "text", "text": "a"}, "b", None, 3], "ab"),
        ([[[[[[[[["a"]]]]]]]]], ""),
        ([], ""),
        ({"type": "redacted_thinking", "data": "x"}, ""),
    ],
)
def test_thought_text(value: object, text: str) -> None:
    """The text of a thought is found in each shape, up to a depth."""
    assert thought_text(value) == text
