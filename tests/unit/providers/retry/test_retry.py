"""Retries, key rotation, fallbacks and circuits before an answer begins, with real upstreams over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Any, Final

import pytest
from msgspec.structs import replace

from providers.base import ChatRequest, Delta, PartDelta, ProviderError, ResponseHandle
from providers.catalog.catalog import Catalog
from providers.catalog.schema import CatalogRows
from providers.clients import ProviderClients
from providers.retry.retry import Retries, RetryingClient
from providers.route import Route
from providers.timeouts import Timeouts
from tests.in_time import check_in_time, checks_time_limit, within
from tests.provider_requests import chat_request
from tests.scripted import ScriptedProviders
from tests.upstream import Script, Upstream, chat, error_response

DOWN = "http://127.0.0.1:9/v1"
RATE_LIMITED = error_response(429, {"error": {"message": "slow down"}}, retry_after="0.2")
BROKEN = error_response(500, {"error": {"message": "oops"}})
OVERLOADED = error_response(503, {"error": {"message": "overloaded"}})
REJECTED = error_response(401, {"error": {"message": "no"}})
GOOD = chat("Hel", "lo")


class RecordingRequester:
    """A `Requester` that records its notifications."""

    text_writer: Final = None

    def __init__(self, text: str = "Hi", rejected_model: str = "") -> None:
        self.events: list[Any] = []
        self.waits: list[int] = []
        self.deltas: list[Delta] = []
        self.starts = 0
        self.failures: list[tuple[str, str]] = []
        self._request = chat_request(text)
        self._rejected_model = rejected_model

    async def build_request(self, route: Route) -> ChatRequest:
        if route.id == self._rejected_model:
            raise ProviderError("unsupported", "It can't.")
        return replace(self._request, model=route.model)

    def on_fallback(self, route: Route) -> None:
        self.events.append(("fallback", route.id))

    def on_request(self, route: Route, chat_request: ChatRequest) -> None:
        assert chat_request.model == route.model
        self.events.append(("request", route.id))

    def on_failure(self, route: Route, error: ProviderError) -> None:
        self.failures.append((route.id, error.code))

    def on_retry(self, attempt: int, delay_ms: int) -> None:
        self.events.append(("retry", attempt))
        self.waits.append(delay_ms)

    def on_start(self) -> None:
        self.starts += 1

    def offer(self, batch: list[Delta]) -> bool:
        self.deltas += batch
        return True

    async def put(self, batch: list[Delta]) -> None:
        self.deltas += batch


class World:
    """Two providers, `a` and `b`, each with its own upstream, and a client for them."""

    def __init__(self, a: Upstream, b: Upstream, keys: str = "one", **fields: Any) -> None:
        self.a, self.b = a, b
        urls = {"a": fields.pop("url", a.openai_url), "b": b.openai_url}
        rows = CatalogRows.model_validate(
            {
                "default_model": "a/m",
                "providers": {"demo": {"title": "Demo", "dialect": "demo"}}
                | {
                    name: {"title": name.upper(), "base_url": url, "keys": [f"{name.upper()}_KEY"]}
                    for name, url in urls.items()
                },
                "models": [
                    row("a", fallbacks=fields.pop("fallbacks", ())),
                    row("b"),
                    row("demo"),
                    row("a2", provider="a"),
                    {**row("c"), "provider": "b", "model": "c"},
                ],
            }
        )
        timeouts = fields.pop("timeouts", Timeouts(first_event_s=5))
        self.deadline_s = fields.pop("deadline_s", 60.0)
        self.catalog = Catalog({"A_KEY": keys, "B_KEY": "other"}, rows)
        self.providers = ProviderClients(self.catalog, timeouts)
        self.client = RetryingClient(self.providers, Retries(**fields))
        self.requester = RecordingRequester()

    async def request(self, model: str = "a", **fields: Any) -> str:
        """Return the text of the answer, or raise `ProviderError`."""
        deadline = asyncio.get_running_loop().time() + self.deadline_s
        requester = copy(self.requester)  # the events are shared, but each answer has its own deltas
        requester.deltas = []
        await self.client.answer(self.catalog.resolve(model), requester, deadline, **fields)
        return "".join(delta.text or "" for delta in requester.deltas if isinstance(delta, PartDelta))

    async def failure(self, model: str = "a", **fields: Any) -> ProviderError:
        """Return the error of a request that fails."""
        with pytest.raises(ProviderError) as caught:
            await self.request(model, **fields)
        return caught.value


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "name": name, "provider": name, "features": ["chat"], **fields}


@asynccontextmanager
async def world(**fields: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        opened = World(
            await stack.enter_async_context(Upstream()), await stack.enter_async_context(Upstream()), **fields
        )
        opened.a.play(GOOD)
        opened.b.play(chat("Other"))
        try:
            yield opened
        finally:
            await opened.providers.aclose()


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.retry.attempts.BACKOFF_FIRST_S", 0.02)


async def test_successful_request_is_sent_once() -> None:
    """A successful request is sent once, and there are no other notifications."""
    async with world(fallbacks=["b"]) as w:
        assert await w.request() == "Hello"
        assert w.requester.events == [("request", "a")]
        assert len(w.a.requests) == 1


async def test_failure_is_retried() -> None:
    """After two responses with status 500 the third attempt succeeds. The delay before it is longer than the first one."""
    async with world() as w:
        w.a.play(BROKEN, BROKEN, GOOD)
        assert await w.request() == "Hello"
        sent = ("request", "a")
        assert w.requester.events == [sent, ("retry", 2), sent, ("retry", 3), sent]
        assert len(w.a.requests) == 3
        assert 10 <= w.requester.waits[0] <= 20 <= w.requester.waits[1] <= 40


async def test_last_attempt_fails() -> None:
    """After the last attempt, the request fails with the provider's last error."""
    async with world(attempts=2, breaker_failures=9) as w:
        w.a.play(OVERLOADED, BROKEN)
        assert (await w.failure()).code == "upstream_error"
        assert len(w.a.requests) == 2


async def test_refused_connection_is_retried() -> None:
    """A refused connection is retried like any other failure, before the fallback is used."""
    async with world(url=DOWN, fallbacks=["b"]) as w:
        assert await w.request() == "Other"
        assert w.requester.events[-2:] == [("fallback", "b"), ("request", "b")]
        assert [event[0] for event in w.requester.events].count("retry") == 2


@pytest.mark.parametrize("status", [400, 404, 413, 422, 451])
async def test_errors_of_the_request_are_not_retried(status: int) -> None:
    """After an error that the request itself causes, nothing is retried. Only status 404 leads to the fallback."""
    async with world(fallbacks=["b"]) as w:
        w.a.play(error_response(status, {"error": {"message": "content_filter" if status != 404 else "x"}}))
        if status == 404:
            assert await w.request() == "Other", "a fallback is used if the provider doesn't have the model"
        else:
            await w.failure()
            assert not w.b.requests
        assert len(w.a.requests) == 1


@checks_time_limit
async def test_retry_after_is_respected() -> None:
    """After a 429 with Retry-After, the retry waits for that time and slightly longer."""
    async with world() as w:
        w.a.play(RATE_LIMITED, GOOD)
        began = asyncio.get_running_loop().time()
        assert await w.request() == "Hello"
        took_s = asyncio.get_running_loop().time() - began
        assert took_s >= 0.2
        check_in_time(took_s, 2)
        assert 190 <= w.requester.waits[0] <= 260


@pytest.mark.parametrize(
    "fields", [{"deadline_s": 0.1}, {"wait_max_s": 0.1}, {"deadline_s": 0.1, "fallbacks": ["nowhere"]}]
)
async def test_retry_delay_above_the_limit_fails_at_once(fields: dict[str, Any]) -> None:
    """If a retry delay would end after the deadline or exceed the limit, the request fails at once, with `retry_after_ms`."""
    async with world(**fields) as w:
        w.a.play(RATE_LIMITED)
        error = await w.failure()
        assert (error.code, error.retryable, error.retry_after_ms) == ("upstream_rate_limited", True, 200)
        assert len(w.a.requests) == 1


@pytest.mark.parametrize("kind", [429, 503])
async def test_fallback_is_used_instead_of_a_long_delay(kind: int) -> None:
    """With a fallback and a Retry-After of more than a few seconds, the fallback is used at once."""
    async with world(fallbacks=["b"]) as w:
        w.a.play(error_response(kind, {"error": {"message": "slow"}}, retry_after="6"))
        assert await w.request() == "Other"
        assert w.requester.events == [("request", "a"), ("fallback", "b"), ("request", "b")]


async def test_a_stalled_first_event_falls_back() -> None:
    """After a stalled first event the fallback is used, without a retry of the same model."""
    async with world(fallbacks=["b"], timeouts=Timeouts(first_event_s=0.2)) as w:
        w.a.play(chat("x").replace(stall_after=0))
        assert await w.request() == "Other"
        assert (len(w.a.requests), len(w.b.requests)) == (1, 1)
        await asyncio.wait_for(w.a.requests[0].disconnected.wait(), 2)


async def test_a_stalled_first_event_without_a_fallback() -> None:
    """Without a fallback, a timeout of the first event is retried like any other failure."""
    async with world(timeouts=Timeouts(first_event_s=0.1)) as w:
        w.a.play(chat("x").replace(delay_s=9), GOOD)
        assert await w.request() == "Hello"


async def test_signs_of_life_without_an_answer() -> None:
    """If only signs of life come before the timeout, the request is retried as after any other timeout."""
    endless = Script((b": alive\n\n",) * 500).replace(rate=20)
    timeouts = Timeouts(first_event_s=0.5, between_events_s=0.5, alive_s=1)
    async with world(fallbacks=["b"], timeouts=timeouts) as w:
        w.a.play(endless)
        assert await w.request() == "Other"
        assert (len(w.a.requests), len(w.b.requests)) == (1, 1)
    async with world(timeouts=timeouts) as w:
        w.a.play(endless, GOOD)
        assert await w.request() == "Hello"
        assert len(w.a.requests) == 2


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_retired_model_is_asked_once(status: int) -> None:
    """A model that its provider has retired isn't asked again. A fallback is asked at once."""
    retired = error_response(status, {"error": {"message": "This model was retired."}}, x_should_retry="true")
    async with world(fallbacks=["b"]) as w:
        w.a.play(retired)
        assert await w.request() == "Other"
        assert (len(w.a.requests), len(w.b.requests)) == (1, 1)
    async with world() as w:
        w.a.play(retired)
        failure = await w.failure()
        assert (failure.code, failure.retryable, len(w.a.requests)) == ("model_not_found", False, 1)


async def test_slow_failure_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that took too long isn't retried."""
    monkeypatch.setattr("providers.retry.attempts.SLOW_FAILURE_S", 0.05)
    async with world(timeouts=Timeouts(first_event_s=0.1)) as w:
        w.a.play(chat("x").replace(delay_s=9), GOOD)
        assert (await w.failure()).code == "upstream_timeout"


async def test_nothing_is_retried_after_the_first_delta() -> None:
    """After the first delta nothing is retried: an answer that breaks off fails."""
    async with world(fallbacks=["b"]) as w:
        w.a.play(chat("Hel", "lo world").replace(cut=150))
        deadline = asyncio.get_running_loop().time() + 9
        with pytest.raises(ProviderError) as caught:
            await w.client.answer(w.catalog.resolve("a"), w.requester, deadline)
        assert w.requester.deltas
        assert caught.value.code == "upstream_incomplete"
        assert (len(w.a.requests), len(w.b.requests)) == (1, 0)


async def test_failure_before_the_first_delta_is_retried() -> None:
    """An answer that ends or fails before its first delta is retried, even with status 200."""
    async with world() as w:
        w.a.play(chat(finish=None), error_response(200, {"error": {"message": "overloaded", "code": 503}}), GOOD)
        assert await w.request() == "Hello"
        assert len(w.a.requests) == 3


async def test_an_empty_answer_is_an_answer() -> None:
    """A finish without text isn't a failure."""
    async with world(fallbacks=["b"]) as w:
        w.a.play(chat())
        assert await w.request() == ""
        assert len(w.a.requests) == 1


async def test_rejected_key_cools_down_and_the_next_is_used() -> None:
    """After a 401 for one key the next key is used without a delay, and the first one cools down."""
    async with world(keys="one,two", attempts=1) as w:
        w.a.play(REJECTED, GOOD)
        for _ in range(3):
            assert await w.request() == "Hello"
        assert [received.headers["authorization"] for received in w.a.requests] == ["Bearer one", *["Bearer two"] * 3]
        assert w.requester.events[:3] == [("request", "a"), ("retry", 2), ("request", "a")]
        assert w.requester.waits == [0]


async def test_turn_waits_if_every_key_cools_down() -> None:
    """If every key is rate limited, the turn waits for the first key that is available again."""
    async with world(keys="one,two") as w:
        w.a.play(RATE_LIMITED, RATE_LIMITED, GOOD)
        assert await w.request() == "Hello"
        assert [received.headers["authorization"][-3:] for received in w.a.requests] == ["one", "two", "one"]
        assert [event for event in w.requester.events if event[0] == "retry"] == [("retry", 2), ("retry", 3)]
        assert w.requester.waits[0] == 0
        assert w.requester.waits[1] > 100


async def test_attempts_are_bounded_if_a_key_stays_rate_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of attempts is bounded even if other turns reach the key's limit again and again."""
    async with world(attempts=3) as w:
        pool = w.client._pools["a"]

        def limited(for_ms: int) -> None:
            error = ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=for_ms)
            pool.cool_down(pool._keys[0], "a", error)

        def on_retry(attempt: int, delay_ms: int) -> None:
            w.requester.waits.append(delay_ms)
            limited(2 * delay_ms + 1000)

        monkeypatch.setattr(w.requester, "on_retry", on_retry)
        await w.providers.load(
            w.catalog.resolve("a")
        )  # import the SDK first, because that takes longer than the cooldown
        limited(200)
        error = await w.failure()
        assert (error.code, len(w.requester.waits), len(w.a.requests)) == ("upstream_rate_limited", 2, 0)


async def test_no_request_if_every_key_cools_down_for_long() -> None:
    """If every key cools down for too long, the next turn uses the fallback without a request to the model."""
    async with world(keys="one,two", fallbacks=["b"]) as w:
        w.a.play(error_response(429, {"error": {"message": "slow"}}, retry_after="90"))
        assert await w.request() == "Other"
        assert len(w.a.requests) == 2
        assert await w.request() == "Other"
        assert len(w.a.requests) == 2
        assert w.requester.events[-2:] == [("fallback", "b"), ("request", "b")]
        assert await w.request("b") == "Other"
        w.a.play(GOOD)
        assert await w.request("a2") == "Hello", "a rate limit applies to one model"


async def test_rejected_key_is_tried_again() -> None:
    """A rejected key is tried again, so that a key fixed at the provider works at once. A fallback comes first."""
    async with world() as w:
        w.a.play(REJECTED)
        assert (await w.failure()).code == "upstream_auth"
        assert (await w.failure()).code == "upstream_auth"
        assert len(w.a.requests) == 2
        w.a.play(GOOD)
        assert await w.request() == "Hello"
    async with world(fallbacks=["b"]) as w:
        w.a.play(REJECTED)
        assert [await w.request(), await w.request()] == ["Other", "Other"]
        assert len(w.a.requests) == 1


async def test_no_request_while_a_circuit_is_open() -> None:
    """With an open circuit the next turn falls back, or fails at once with a retry delay."""
    async with world(breaker_failures=3, fallbacks=["b"]) as w:
        w.a.play(BROKEN)
        assert await w.request() == "Other"
        assert len(w.a.requests) == 3
        assert await w.request() == "Other"
        assert len(w.a.requests) == 3
        w.requester.events.clear()
        error = await w.failure("a2")
        assert (error.code, error.retryable) == ("upstream_error", True)
        assert 0 < (error.retry_after_ms or 0) <= 30_000
        assert not w.requester.events
        assert len(w.a.requests) == 3


async def test_opening_circuit_ends_the_attempts() -> None:
    """When a circuit opens, there are no further attempts."""
    async with world(breaker_failures=1) as w:
        w.a.play(BROKEN)
        assert (await w.failure()).code == "upstream_error"
        assert w.requester.events == [("request", "a")]


async def test_half_open_circuit_sends_one_probe() -> None:
    """After the open time, one of several turns sends a probe. All may send requests after it succeeds."""
    async with world(breaker_failures=1, breaker_open_s=0.1, attempts=1) as w:
        w.a.play(BROKEN)
        await w.failure()
        await asyncio.sleep(0.11)
        w.a.play(OVERLOADED.replace(delay_s=0.05))
        failures = await asyncio.gather(*(w.failure() for _ in range(5)))
        assert len(w.a.requests) == 2, "one probe"
        assert {error.code for error in failures} == {"upstream_error", "upstream_overloaded"}
        await asyncio.sleep(0.11)
        w.a.play(GOOD)
        assert await w.request() == "Hello"
        assert list(await asyncio.gather(w.request(), w.request())) == ["Hello", "Hello"]


async def test_cancelled_probe_allows_another() -> None:
    """A probe that is cancelled before its response doesn't count, and the next turn may send one."""
    async with world(breaker_failures=1, breaker_open_s=0.1, attempts=1) as w:
        w.a.play(BROKEN, GOOD.replace(delay_s=9), GOOD)
        await w.failure()
        await asyncio.sleep(0.11)
        task = asyncio.get_running_loop().create_task(w.request())
        await w.a.wait_for_request(2)
        task.cancel()
        await asyncio.wait([task])
        assert await w.request() == "Hello"


@pytest.mark.parametrize("moment", ["waiting", "request"])
@checks_time_limit
async def test_cancel_takes_effect_at_once(moment: str) -> None:
    """A cancel during a delay or before the response takes effect at once, and no request follows."""
    async with world(fallbacks=["b"]) as w:
        w.a.play(error_response(429, {}, retry_after="4") if moment == "waiting" else GOOD.replace(delay_s=9))
        task = asyncio.get_running_loop().create_task(w.request())
        received = await w.a.wait_for_request(1)
        if moment == "waiting":
            async with asyncio.timeout(5):
                while not w.requester.waits:
                    await asyncio.sleep(0.01)
        with within(1):
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()
        if moment == "request":
            await asyncio.wait_for(received.disconnected.wait(), 2)
        assert (len(w.a.requests), len(w.b.requests)) == (1, 0)


async def test_a_chain_of_fallbacks() -> None:
    """A fallback that is unavailable or can't take the request is skipped silently, and the next one is used."""
    async with world(fallbacks=["nowhere", "c", "b"], attempts=1) as w:
        w.a.play(BROKEN)
        w.requester = RecordingRequester(rejected_model="c")
        assert await w.request() == "Other"
        assert w.requester.events == [("request", "a"), ("fallback", "b"), ("request", "b")]


async def test_first_error_is_reported_if_all_models_fail(caplog: pytest.LogCaptureFixture) -> None:
    """If all models fail, the client gets the first error, and the other errors are logged."""
    async with world(fallbacks=["b"], attempts=1) as w:
        w.a.play(OVERLOADED)
        w.b.play(REJECTED)
        with caplog.at_level(logging.WARNING):
            assert (await w.failure()).code == "upstream_overloaded"
        assert "'model': 'b', 'code': 'upstream_auth'" in caplog.text
        assert w.requester.events == [("request", "a"), ("fallback", "b"), ("request", "b")]


async def test_replayed_answer_is_requested_once() -> None:
    """With `once`, a request is neither retried nor sent to a fallback: clients have part of the answer already."""
    async with world(fallbacks=["b"]) as w:
        w.a.play(BROKEN)
        assert (await w.failure(once=True)).code == "upstream_error"
        assert w.requester.events == [("request", "a")]
        assert (len(w.a.requests), len(w.b.requests)) == (1, 0)


async def test_demo_failures_are_not_retried() -> None:
    """The demo's requested failures aren't retried."""
    client = RetryingClient(ProviderClients(Catalog({})), Retries(attempts=3, breaker_failures=1))
    requester = RecordingRequester()
    requester._request = chat_request(demo={"fail": "overloaded"})
    requester.on_request = lambda route, chat_request: requester.events.append(("request", route.id))  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(ProviderError, match="as requested"):
            await client.answer(Catalog({}).resolve("demo"), requester, 1e9)
    assert requester.events == [("request", "demo")] * 2
    assert requester.failures == [("demo", "upstream_overloaded")] * 2


async def test_every_failed_request_is_reported_once() -> None:
    """A failure is reported for the model that was asked, also if that is the demo model as a fallback."""
    async with world(fallbacks=["demo"], attempts=2) as w:
        w.a.play(BROKEN, BROKEN)
        w.requester._request = chat_request(demo={"fail": "overloaded"})
        w.requester.on_request = lambda route, chat_request: None  # type: ignore[method-assign]
        with pytest.raises(ProviderError):
            await w.request()
        assert [model for model, _ in w.requester.failures] == ["a", "a", "demo"]


async def test_the_demo_as_a_fallback() -> None:
    """The demo works as a fallback."""
    async with world(fallbacks=["demo"], attempts=1) as w:
        w.a.play(BROKEN)
        w.requester._request = chat_request(demo={"text": "I am here."})
        w.requester.on_request = lambda route, chat_request: None  # type: ignore[method-assign]
        assert await w.request() == "I am here."
        assert w.requester.events == [("fallback", "demo")]


async def test_answer_with_a_response_handle_has_begun() -> None:
    """Law 9: an answer has begun when its response handle is passed on, even without text."""

    async def slow(request: ChatRequest) -> AsyncIterator[list[Delta]]:
        yield [ResponseHandle("m", "resp_1")]
        await asyncio.get_running_loop().create_future()

    client = RetryingClient(ScriptedProviders(slow), Retries())
    requester = RecordingRequester()
    async with asyncio.TaskGroup() as tasks:
        answering = tasks.create_task(client.answer(Catalog({}).resolve("demo"), requester, 1e9))
        while not requester.deltas:
            await asyncio.sleep(0)
        answering.cancel()
    assert (requester.deltas, requester.starts) == ([ResponseHandle("m", "resp_1")], 1)
