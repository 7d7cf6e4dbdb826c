"""Any history that events or clients can make goes back in a form that each dialect's documented rules allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.turns.request_builder import fit_request
from providers.anthropic.request import messages_body
from providers.base import (
    ChatMessage,
    ChatRequest,
    CitationPart,
    Effort,
    FilePart,
    ImagePart,
    Params,
    Part,
    ProviderError,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.catalog.catalog import Catalog
from providers.fit.context import BEGIN, CONTINUE, NO_ANSWER, fit
from providers.fit.ids import own_call_id
from providers.openai.chat_request import chat_body
from providers.openai.responses_request import responses_body
from providers.route import Route
from tests.dialect_rules import check_chat, check_messages, check_responses
from tests.examples import examples
from tests.provider_requests import route
from tests.upstream_providers import every_key

CATALOG = Catalog(every_key())
NINE = r"[a-zA-Z0-9]{9}"
Check = Callable[[dict[str, Any]], None]
BLIND = ("chat", "streaming", "tools")
TOOLLESS = ("chat", "streaming", "vision")


def _chat(**rules: Any) -> Check:
    return lambda body: check_chat(body, **rules)


DIALECTS: dict[str, tuple[Route, Check]] = {
    "openai": (CATALOG.resolve("openai/any"), _chat()),
    "azure": (CATALOG.resolve("azure/any"), _chat()),
    "deepseek": (CATALOG.resolve("deepseek/any"), _chat(vision=False)),
    "xai": (CATALOG.resolve("xai/any"), _chat()),
    "mistral": (CATALOG.resolve("mistral/any"), _chat(ids=NINE, strict=True)),
    "kimi": (CATALOG.resolve("kimi-cn/any"), _chat(ids="functions", strict=True)),
    "gemini": (CATALOG.resolve("gemini-3.8-flash"), _chat(strict=True)),
    "openrouter": (CATALOG.resolve("openrouter/any"), _chat(ids=NINE, strict=True)),
    "vllm": (CATALOG.resolve("vllm/any"), _chat(ids=NINE, strict=True)),
    "ollama": (CATALOG.resolve("ollama/any"), _chat(ids=NINE, strict=True)),
    "lmstudio": (CATALOG.resolve("lmstudio/any"), _chat(ids=NINE, strict=True)),
    "unknown base": (route(strict_roles=True), _chat(ids=NINE, strict=True)),
    "chat without vision": (route(features=BLIND), _chat(ids=NINE, vision=False)),
    "chat without tools": (route(features=TOOLLESS, strict_roles=True), _chat(strict=True, tools=False)),
    "responses": (CATALOG.resolve("gpt-6-sol"), check_responses),
    "responses without vision": (
        route("openai_responses", features=BLIND),
        lambda body: check_responses(body, vision=False),
    ),
    "responses without tools": (
        route("openai_responses", features=TOOLLESS),
        lambda body: check_responses(body, tools=False),
    ),
    "anthropic": (CATALOG.resolve("claude-opus-5-5"), check_messages),
    "anthropic with budgets": (CATALOG.resolve("claude-haiku-4-5"), check_messages),
    "bedrock": (CATALOG.resolve("bedrock/any"), check_messages),
    "vertex": (CATALOG.resolve("vertex/any"), check_messages),
    "foundry": (CATALOG.resolve("foundry/any"), check_messages),
    "anthropic without vision": (route("anthropic", features=BLIND), lambda body: check_messages(body, vision=False)),
    "anthropic without tools": (route("anthropic", features=TOOLLESS), lambda body: check_messages(body, tools=False)),
}

blanks = st.sampled_from(["", "\n\n", " "])
words = st.sampled_from(["Hello", "Oslo?", "It is sunny. ", "x" * 300]) | blanks
calls = st.sampled_from(
    ["call_0", "functions.weather:0", "c" * 85, "toolu_01", "é", "a b", "abcdefghi", "1", "1 call_0"]
)
names = st.sampled_from(["weather", "get.weather", "", "n" * 10_000, "weather ", "7", "wetter!", "get_weather"])
arguments = st.sampled_from(
    [
        '{"city":"Oslo"}',
        "{}",
        "",
        " ",
        "null",
        "[1]",
        '"x"',
        '{"text":"once upon a ti',
        '{"a":NaN}',
        '{"a":1e999}',
        "[" * 5000,
        '"{\\"city\\":\\"Oslo\\"}"',
        '{"a":"\\ud800"}',
        "write it",
        "{}{}",
        "x" * 10_000,
    ]
)
signatures = st.sampled_from(
    [None, "c2ln", "rs_1:ZW5j", json.dumps({"type": "reasoning.encrypted", "data": "d", "id": "t"})]
)
images = st.builds(
    ImagePart,
    st.sampled_from(["image/png", "image/jpg", "image/svg+xml"]),
    data=st.just("aGk="),
    name=st.none() | words,
)
files = st.builds(
    FilePart,
    st.sampled_from(["application/pdf", "text/plain", "audio/wav"]),
    data=st.just("aGk="),
    name=st.none() | words,
)
results = st.builds(ToolResultPart, calls, words, st.booleans())
citations = st.builds(CitationPart, st.none() | st.just("https://x.example"), st.none() | words, st.none() | words)
answer_parts = st.one_of(
    st.builds(TextPart, words),
    st.builds(ReasoningPart, words, st.just(False), signatures),
    st.builds(ReasoningPart, st.just(""), st.just(True), st.just("cmVk")),
    st.builds(RefusalPart, words),
    st.builds(ToolCallPart, calls, names, arguments),
    results,
    images,
    files,
    citations,
)
input_parts = st.one_of(
    st.builds(TextPart, words), images, files, citations, st.builds(ToolCallPart, calls, names, arguments)
)
new_inputs = st.lists(st.builds(TextPart, words), max_size=2).map(lambda parts: [*parts, TextPart("And now?")])


@st.composite
def histories(draw: st.DrawFn, *, system: bool = True) -> list[ChatMessage]:
    """Messages in any order. The calls of an answer are often followed by their results, some of them twice or late."""
    messages: list[ChatMessage] = []
    for _ in range(draw(st.integers(0, 6))):
        match draw(
            st.sampled_from(
                ["user", "assistant", "answered", "system"] if system else ["user", "assistant", "answered"]
            )
        ):
            case "system":
                messages.append(ChatMessage("system", tuple(draw(st.lists(st.builds(TextPart, words), max_size=2)))))
            case "user":
                parts: list[Part] = draw(st.lists(input_parts | results, max_size=3))
                messages.append(ChatMessage("user", tuple(parts)))
            case kind:
                answer = draw(st.lists(answer_parts, max_size=5))
                messages.append(ChatMessage("assistant", tuple(answer)))
                made = [part for part in answer if isinstance(part, ToolCallPart)]
                if kind == "answered" and made:
                    found = [ToolResultPart(part.call, draw(words)) for part in draw(st.permutations(made))]
                    cut = draw(st.integers(0, len(found)))
                    messages += [ChatMessage("tool", tuple(some)) for some in (found[:cut], found[cut:]) if some]
    return messages


def _images(messages: list[ChatMessage]) -> list[ImagePart]:
    return [part for message in messages for part in message.parts if isinstance(part, ImagePart)]


def requested(messages: list[ChatMessage], **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=tuple(messages), **fields)


def body_of(model: Route, request: ChatRequest) -> dict[str, Any]:
    fitted = fit_request(model, request, stateless=True)
    bodies = {"openai_chat": chat_body, "openai_responses": responses_body}
    body = bodies.get(model.dialect, messages_body)(fitted, model)
    return json.loads(json.dumps(body, allow_nan=False))  # type: ignore[no-any-return]


def _each(*dialects: str) -> Iterator[tuple[Route, Check]]:
    """Yield the route and the rules of these dialects. It takes longer to draw a history than to check it for all of them.

    A failure names the dialect.
    """
    for dialect in dialects:
        note(f"dialect: {dialect}")
        yield DIALECTS[dialect]


@settings(max_examples=examples(80))
@given(
    history=histories(),
    new=new_inputs,
    system=st.none() | st.just("Be brief."),
    offered=st.booleans(),
    effort=st.sampled_from([None, "none", "high"]),
)
def test_any_history_follows_the_rules_of_the_dialect(
    history: list[ChatMessage], new: list[Part], system: str | None, offered: bool, effort: Effort | None
) -> None:
    """Failed and stopped turns, duplicate ids, broken arguments, images, thoughts: all of it goes back in a legal form."""
    messages = [*history, ChatMessage("user", tuple(new))]
    for model, check in _each(*DIALECTS):
        tools = (Tool("weather"), Tool("get_weather")) if offered and "tools" in model.features else ()
        check(body_of(model, requested(messages, system=system, tools=tools, params=Params(reasoning=effort))))


@settings(max_examples=examples(80))
@given(history=histories(), effort=st.sampled_from([None, "none", "high"]))
def test_any_end_of_a_history_follows_the_rules_or_is_refused(
    history: list[ChatMessage], effort: Effort | None
) -> None:
    """This includes a context that ends with an answer or a result, and one with nothing that can be sent."""
    # An image of an unknown type in the new input is left to the provider to refuse.
    assume(not any(part.media_type == "image/svg+xml" for part in _images(history[-1:])))
    for model, check in _each(*DIALECTS):
        try:
            body = body_of(model, requested(history, params=Params(reasoning=effort)))
        except ProviderError as error:
            assert error.code in ("unsupported", "invalid_request")
        else:
            check(body)


@settings(max_examples=examples(40))
@given(history=histories(system=False), more=histories(system=False))
def test_a_longer_context_begins_with_the_same_messages(history: list[ChatMessage], more: list[ChatMessage]) -> None:
    """An id doesn't depend on what follows, so that a provider's cache of prefixes can be used."""
    asked = [*history, ChatMessage("user", (TextPart("Well?"),))]
    for model, _ in _each("openai", "mistral", "kimi", "responses", "anthropic"):
        short, long = (
            fit_request(model, requested(messages), stateless=True) for messages in (asked, [*asked, *more, ASK])
        )
        assert long.messages[: len(short.messages) - 1] == short.messages[:-1]
        assert fit_request(model, requested(asked), stateless=True) == short


def test_own_ids_differ_by_turn_and_part_and_begin_with_the_id_of_the_provider() -> None:
    """Our own ids are short, safe, unique and repeatable, whatever the provider gives."""
    given_ids = ["functions.weather:0", "", "c" * 10_000, "é\x1b", "call_1"]
    made = [own_call_id(message, part, one) for message in ("m_1", "m_2") for part in (0, 1) for one in given_ids]
    assert len(set(made)) == len(made)
    assert made == [
        own_call_id(message, part, one) for message in ("m_1", "m_2") for part in (0, 1) for one in given_ids
    ]
    assert all(len(one) <= 40 and one.replace("_", "").isascii() and one.replace("_", "").isalnum() for one in made)
    assert made[0].startswith("functions_weather_0_")


def pair(call: str, output: str, name: str = "weather") -> list[ChatMessage]:
    return [
        ChatMessage("assistant", (ToolCallPart(call, name, "{}"),)),
        ChatMessage("tool", (ToolResultPart(call, output),)),
    ]


ASK = ChatMessage("user", (TextPart("Weather?"),))


def test_a_result_belongs_to_the_call_that_it_directly_follows() -> None:
    """Stored histories have the same id in several turns, and in one answer. Each result stays with its own call."""
    twice = (ToolCallPart("c", "weather", '{"n":1}'), ToolCallPart("c", "weather", '{"n":2}'))
    outputs = (ToolResultPart("c", "one"), ToolResultPart("c", "two"))
    messages = [ASK, *pair("c", "first"), ASK, ChatMessage("assistant", twice), ChatMessage("tool", outputs)]
    body = body_of(DIALECTS["openai"][0], requested(messages))
    made = {call["id"]: call["function"]["arguments"] for m in body["messages"] for call in m.get("tool_calls") or ()}
    answered = {m["tool_call_id"]: m["content"] for m in body["messages"] if m["role"] == "tool"}
    assert list(made) == list(answered)
    assert list(made.values()) == ["{}", '{"n":1}', '{"n":2}']
    assert list(answered.values()) == ["first", "one", "two"]


def test_kimis_ids_count_over_the_conversation() -> None:
    """Kimi's models were trained on `functions.NAME:INDEX`, with an index that counts from 0."""
    messages = [ASK, *pair("c", "a"), *pair("c", "b", "clock"), ASK]
    fitted = fit_request(DIALECTS["kimi"][0], requested(messages), stateless=True)
    calls_ = [part.call for message in fitted.messages for part in message.parts if isinstance(part, ToolCallPart)]
    assert calls_ == ["functions.weather:0", "functions.clock:1"]


def test_messages_of_one_role_are_merged() -> None:
    """After a turn that failed without an answer, the two questions are one message."""
    again = ChatMessage("user", (TextPart("Are you there?"),))
    body = body_of(DIALECTS["vllm"][0], requested([ASK, ChatMessage("assistant", ()), again]))
    assert body["messages"] == [{"role": "user", "content": "Weather?\n\nAre you there?"}]


def test_strict_roles_are_filled_in() -> None:
    """Mistral and many templates refuse a question after a tool's result, an answer at the start or one at the end."""
    hello = ChatMessage("assistant", (TextPart("Hello!"),))
    body = body_of(DIALECTS["mistral"][0], requested([hello, ASK, *pair("c", "sunny"), ASK, hello]))
    texts = [message["content"] for message in body["messages"]]
    assert texts == [BEGIN, "Hello!", "Weather?", None, "sunny", NO_ANSWER, "Weather?", "Hello!", CONTINUE]
    partial = requested([ASK, hello], partial_answer=(TextPart("Hel"),))
    assert fit(partial, DIALECTS["mistral"][0]).messages[-1].role == "assistant"


def test_system_messages_are_first_where_roles_are_strict() -> None:
    """Templates take one system prompt, at the start. OpenAI takes system messages anywhere."""
    note = ChatMessage("system", (TextPart("It is late."),))
    request = requested([ASK, note, ASK], system="Be brief.")
    strict = body_of(DIALECTS["vllm"][0], request)["messages"]
    assert [message["role"] for message in strict] == ["system", "user"]
    assert strict[0]["content"] == "Be brief.\n\nIt is late."
    assert [m["role"] for m in body_of(DIALECTS["openai"][0], request)["messages"]] == [
        "system",
        "user",
        "system",
        "user",
    ]
    assert body_of(DIALECTS["anthropic"][0], requested([note]))["messages"][0]["role"] == "user"


def test_nothing_to_send_is_refused() -> None:
    """A context that has only blank text and unsigned thoughts gives a named error, not an empty request."""
    nothing = [ChatMessage("user", (TextPart(" "),)), ChatMessage("assistant", (ReasoningPart("Hm"),))]
    with pytest.raises(ProviderError, match="nothing") as caught:
        fit(requested(nothing), DIALECTS["openai"][0])
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("dialect", "signature", "is_sent"),
    [
        ("anthropic", "c2ln", True),
        ("anthropic", "rs_1:ZW5j", False),
        ("anthropic", '{"type":"reasoning.text"}', False),
        ("responses", "rs_1:ZW5j", True),
        ("responses", '{"type":"reasoning.text"}', False),
    ],
)
def test_signatures_of_other_dialects_are_left_out(dialect: str, signature: str, is_sent: bool) -> None:
    """The `messages` of a client don't say which model made a signature, and a provider refuses another model's."""
    answer = ChatMessage("assistant", (ReasoningPart("why", signature=signature), TextPart("Because.")))
    body = body_of(DIALECTS[dialect][0], requested([ASK, answer, ASK]))
    assert ("why" in json.dumps(body)) == is_sent


def test_anthropic_gets_a_definition_of_each_tool_that_was_called() -> None:
    """The Messages API refuses a history with calls if no tools are defined. The model may not call these tools."""
    body = body_of(DIALECTS["anthropic"][0], requested([ASK, *pair("c", "sunny", "get.weather"), ASK]))
    assert [tool["name"] for tool in body["tools"]] == [body["messages"][1]["content"][0]["name"]]
    assert body["tool_choice"] == {"type": "none"}


def test_gemini_takes_calls_of_another_model() -> None:
    """A call without a signature gets the one that Google documents for calls of other models."""
    body = body_of(DIALECTS["gemini"][0], requested([ASK, *pair("c", "sunny"), ASK]))
    assert body["messages"][1]["tool_calls"][0]["extra_content"]["google"]["thought_signature"] == (
        "skip_thought_signature_validator"
    )


def test_openrouters_details_name_the_new_ids() -> None:
    """The encrypted thoughts of Gemini at OpenRouter belong to a call by its id."""
    detail = {"type": "reasoning.encrypted", "data": "d", "id": "tool_1", "format": "google-gemini-v1"}
    other = {"type": "reasoning.encrypted", "data": "d", "id": "rs_1", "format": "openai-responses-v1"}
    thoughts = tuple(ReasoningPart("", True, json.dumps(one)) for one in (detail, other))
    answer = ChatMessage("assistant", (*thoughts, ToolCallPart("tool_1_a", "weather", "{}")))
    messages = [ASK, answer, ChatMessage("tool", (ToolResultPart("tool_1_a", "sunny"),))]
    sent = body_of(DIALECTS["openrouter"][0], requested(messages))["messages"][1]
    assert [one["id"] for one in sent["reasoning_details"]] == [sent["tool_calls"][0]["id"], "rs_1"]


def test_the_demo_gets_its_context_unchanged() -> None:
    """The demo model has no rules."""
    request = requested([ASK, ASK])
    assert fit(request, structs.replace(route(), dialect="demo")) is request
