"""The demo model."""

import asyncio
import time
from typing import Any

import pytest

from providers.base import ChatMessage, ChatRequest, Delta, PartDelta, ProviderError, TextPart, Tool, Usage
from providers.demo.model import DemoOptions, Dialect, _thinking, demo_options, demo_text
from providers.endpoint import Endpoint
from providers.timeouts import Timeouts
from tests.answers import Answer, Batches
from tests.provider_requests import chat_request, route

ROUTE = route("demo")
MODEL = Dialect(Endpoint("demo", "Demo", "", ()), Timeouts(between_events_s=0.05))


def demo_request(
    prompt: str = "Hello", /, *, tools: tuple[Tool, ...] = (), seed: int | None = None, **demo: Any
) -> ChatRequest:
    return chat_request(prompt, tools=tools, seed=seed, demo={"rate": 0} | demo)


async def answer_to(request: ChatRequest) -> Answer:
    answer = Answer()
    try:
        await MODEL.answer(request, ROUTE, answer)
    except ProviderError as error:
        answer.error = error
    return answer


async def test_same_prompt_same_text() -> None:
    """A prompt always gets the same text, and `demo_text` returns it in advance."""
    request = demo_request("What is a turn?")
    answers = [await answer_to(request) for _ in range(2)]
    assert answers[0].text() == answers[1].text() == demo_text(request)
    assert (answers[0].finish, answers[0].parts[0][0]) == ("stop", "text")


def test_themes_have_heading_list_and_code() -> None:
    """There are four themes. Each has a heading, a list and code, and quotes the prompt."""
    texts = {demo_text(demo_request("Tell me", seed=seed)) for seed in range(20)}
    assert len(texts) == 4
    for text in texts:
        assert text.startswith("## ")
        assert "```" in text
        assert "\n- " in text or "\n1. " in text
        assert "Tell me" in text
        assert "{prompt}" not in text
        assert max(map(len, text.split("\n"))) < 500


def test_prompts_choose_the_theme() -> None:
    """The prompt chooses the theme: 30 prompts get at least three different ones."""
    assert len({demo_text(demo_request(str(number))).replace(str(number), "") for number in range(30)}) >= 3


def test_quoted_prompt_is_short_and_escaped() -> None:
    """The user's last prompt is quoted in one short line, with its markup escaped. It may be empty or missing."""
    text = demo_text(demo_request("# Big\n\n<script>*x*</script> " + "word " * 100))
    assert "\\# Big \\<script\\>\\*x\\*" in text
    assert "…" in text
    assert text.count("word") < 30
    for prompt in ("", "{prompt}"):
        assert demo_text(demo_request(prompt))
    assert demo_text(ChatRequest(model="demo", messages=()))
    last = (ChatMessage("user", (TextPart("first"),)), ChatMessage("assistant", (TextPart("second"),)))
    assert "first" in demo_text(ChatRequest(model="demo", messages=last))


@pytest.mark.parametrize("text", ["", " ", "one", "a b  c\n\n d ", "  lead", "é ☃ 🍀", "\n"])
async def test_exact_text(text: str) -> None:
    """`text` is streamed exactly, including white space."""
    answer = await answer_to(demo_request(text=text))
    assert answer.text() == text == demo_text(demo_request(text=text))
    assert answer.finish == "stop"


@pytest.mark.parametrize(("text", "tokens"), [("a b c", 2), ("a b c", 8), ("", 3), (None, 1000), (None, 0)])
async def test_exact_tokens(text: str | None, tokens: int) -> None:
    """The answer has exactly `tokens` tokens: the text is cut or repeated."""
    request = demo_request(text=text, tokens=tokens)
    answer = await answer_to(request)
    assert answer.usage is not None
    assert answer.usage.output_tokens == tokens
    assert answer.text() == demo_text(request)
    assert answer.batches == tokens + 1


async def test_each_word_is_a_batch() -> None:
    """The text is streamed word by word, and other tasks of the loop run in between."""
    ticks, running = 0, True

    async def tick() -> None:
        nonlocal ticks
        while running:
            ticks += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(tick())
        await MODEL.answer(demo_request(text="a b c d"), ROUTE, sink := Batches())
        running = False
    assert [batch[-1] for batch in sink.put_batches[:-1]] == [PartDelta(0, text) for text in ("a ", "b ", "c ", "d")]
    assert ticks >= 4


async def test_rate() -> None:
    """Tokens are sent at the requested rate, after a delay before the first one."""
    start = time.perf_counter()
    await answer_to(demo_request(rate=100, tokens=21, first_ms=100))
    assert 0.28 <= time.perf_counter() - start < 0.6


async def test_rate_is_kept_after_a_pause() -> None:
    """After the reader pauses, the tokens that are due are sent at once, so that the rate is kept."""
    start = time.perf_counter()

    class Pausing(Batches):
        async def put(self, batch: list[Delta]) -> None:
            await super().put(batch)
            if len(self.put_batches) == 3:
                await asyncio.sleep(0.2)

    await MODEL.answer(demo_request(rate=100, tokens=31), ROUTE, Pausing())
    assert time.perf_counter() - start < 0.45


@pytest.mark.parametrize(("thinking", "tokens"), [(True, None), (7, 7), (False, 0), (0, 0)])
async def test_thinking(thinking: bool | int, tokens: int | None) -> None:
    """A reasoning part with the requested number of tokens comes first and is counted in the usage."""
    request = demo_request(thinking=thinking, tokens=3)
    answer = await answer_to(request)
    expected = [("reasoning", "".join(_thinking(request, demo_options(request)))), ("text", demo_text(request))]
    assert answer.parts == (expected if thinking else expected[1:])
    assert answer.usage is not None
    if tokens is not None:
        assert (answer.usage.reasoning_tokens or 0) == tokens
        assert answer.usage.output_tokens == tokens + 3


async def test_tool() -> None:
    """A tool call comes last. It is the one given in the options or a call of the request's first tool."""
    answer = await answer_to(demo_request(tool={"name": "f", "arguments": '{"x": 1}'}, tokens=2))
    assert (answer.parts[1], answer.finish) == (("tool_call", '{"x": 1}'), "tool_calls")
    answer = await answer_to(demo_request(tool=True, tools=(Tool("g"),), text=""))
    assert (answer.parts, answer.started[0].name) == ([("tool_call", "{}")], "g")
    assert answer.started[0].call
    assert (await answer_to(demo_request(tool=False, tokens=2))).finish == "stop"


async def test_usage() -> None:
    """Usage counts the words of the whole request and of the answer."""
    request = ChatRequest(
        model="demo",
        system="Be kind.",
        messages=(ChatMessage("user", (TextPart("one two three"),)),),
        params=demo_request(tokens=4).params,
    )
    assert (await answer_to(request)).usage == Usage(5, 4)


@pytest.mark.parametrize(
    ("fail", "code", "retryable", "tokens"),
    [
        ("before", "upstream_error", True, 0),
        ("mid", "upstream_error", True, 5),
        ("overloaded", "upstream_overloaded", True, 0),
        ("rate_limited", "upstream_rate_limited", True, 0),
        ("auth", "upstream_auth", False, 0),
        ("context", "context_length_exceeded", False, 0),
        ("timeout", "upstream_timeout", True, 5),
        ("stall", "upstream_timeout", True, 5),
        ("cut", "upstream_incomplete", True, 5),
    ],
)
async def test_failures(fail: str, code: str, retryable: bool, tokens: int) -> None:
    """`fail` ends the answer with the error at its usual point, or after `fail_after` tokens."""
    answer = await answer_to(demo_request(fail=fail, tokens=10))
    assert (answer.code, answer.batches, answer.finish) == (code, tokens, None)
    assert answer.error is not None
    assert answer.error.retryable is retryable
    assert (answer.error.retry_after_ms is not None) == (fail == "rate_limited")
    assert (await answer_to(demo_request(fail=fail, fail_after=3, tokens=10))).batches == 3


@pytest.mark.parametrize(("fail", "tokens"), [("length", 5), ("content_filter", 5), ("refusal", 0)])
async def test_early_endings(fail: str, tokens: int) -> None:
    """An early finish reason can be requested. It is a normal finish, not an error."""
    answer = await answer_to(demo_request(fail=fail, tokens=10))
    assert (answer.finish, answer.error) == (fail, None)
    assert answer.usage is not None
    assert answer.usage.output_tokens == tokens
    assert (answer.parts[-1][0] == "refusal") is (fail == "refusal")


async def test_max_tokens() -> None:
    """An answer stops at `max_tokens` with the finish reason `length`, if it is longer than that."""
    answer = await answer_to(chat_request(max_tokens=3, demo={"rate": 0, "tokens": 10}))
    assert (answer.finish, answer.batches) == ("length", 4)
    answer = await answer_to(chat_request(max_tokens=10, demo={"rate": 0, "tokens": 10}))
    assert answer.finish == "stop"


@pytest.mark.parametrize(
    ("demo", "named"),
    [
        ({"rate": -1}, "params.demo.rate"),
        ({"rate": "fast"}, "params.demo.rate"),
        ({"tokens": 10**9}, "params.demo.tokens"),
        ({"tokens": 1.5}, "params.demo.tokens"),
        ({"thinking": "yes"}, "params.demo.thinking"),
        ({"tool": {"arguments": "{}"}}, "params.demo.tool"),
        ({"tool": True}, "params.demo.tool"),
        ({"fail": "gloriously"}, "params.demo.fail"),
        ({"first_ms": -1}, "params.demo.first_ms"),
        ({"color": "red"}, "`color`"),
    ],
)
async def test_invalid_options(demo: dict[str, Any], named: str) -> None:
    """An invalid option is rejected, and the message names it."""
    answer = await answer_to(chat_request(demo=demo))
    assert (answer.code, answer.batches) == ("invalid_request", 0)
    assert answer.error is not None
    assert named in answer.error.message


async def test_defaults() -> None:
    """Without options, the rate is 40 tokens per second. Closing the demo dialect does nothing."""
    assert demo_options(chat_request()) == DemoOptions()
    assert DemoOptions().rate == 40
    await MODEL.aclose()
