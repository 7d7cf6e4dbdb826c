"""Getting an answer to begin, against real upstreams over HTTP: retries, keys, fallbacks, circuits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Any

import pytest
from msgspec.structs import replace

from providers.base import ChatRequest, Delta, PartDelta, ProviderError, ResponseHandle
from providers.catalog.catalog import Catalog, Providers
from providers.catalog.schema import CatalogRows
from providers.retry.retry import Retries, RetryingClient
from providers.route import Route, Timeouts
from tests.answers import question
from tests.in_time import bounds_a_time, check_in_time, within
from tests.scripted import ScriptedProviders
from tests.upstream import Upstream, chat, refusal

DOWN = "http://127.0.0.1:9/v1"
LIMITED = refusal(429, {"error": {"message": "slow down"}}, retry_after="0.2")
BROKEN = refusal(500, {"error": {"message": "oops"}})
OVERLOADED = refusal(503, {"error": {"message": "overloaded"}})
REFUSED = refusal(401, {"error": {"message": "no"}})
GOOD = chat("Hel", "lo")


class Listener:
    """An `Requester` that writes down what it is told."""

    def __init__(self, text: str = "Hi", refuses: str = "") -> None:
        self.told: list[Any] = []
        self.waits: list[int] = []
        self.said: list[Delta] = []
        self.begun = 0
        self.failures: list[tuple[str, str]] = []
        self._question = question(text)
        self._refuses = refuses

    async def build_request(self, route: Route) -> ChatRequest:
        if route.id == self._refuses:
            raise ProviderError("unsupported", "It can't.")
        return replace(self._question, model=route.model)

    def on_fallback(self, route: Route) -> None:
        self.told.append(("fallback", route.id))

    def on_request(self, route: Route, question: ChatRequest) -> None:
        assert question.model == route.model
        self.told.append(("asking", route.id))

    def on_failure(self, route: Route, error: ProviderError) -> None:
        self.failures.append((route.id, error.code))

    def on_retry(self, attempt: int, delay_ms: int) -> None:
        self.told.append(("retrying", attempt))
        self.waits.append(delay_ms)

    def on_start(self) -> None:
        self.begun += 1

    def offer(self, batch: list[Delta]) -> bool:
        self.said += batch
        return True

    async def put(self, batch: list[Delta]) -> None:
        self.said += batch


class World:
    """Two providers, `a` and `b`, each at an upstream of its own, and what asks them."""

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
        self.providers = Providers(self.catalog, timeouts)
        self.resilience = RetryingClient(self.providers, Retries(**fields))
        self.listener = Listener()

    async def ask(self, model: str = "a", **fields: Any) -> str:
        """The text of the answer. Raises `ProviderError`."""
        deadline = asyncio.get_running_loop().time() + self.deadline_s
        listener = copy(self.listener)  # what is told is one list; what is said is each answer's
        listener.said = []
        await self.resilience.answer(self.catalog.resolve(model), listener, deadline, **fields)
        return "".join(delta.text or "" for delta in listener.said if isinstance(delta, PartDelta))

    async def failure(self, model: str = "a", **fields: Any) -> ProviderError:
        """The error of an answer that doesn't come."""
        with pytest.raises(ProviderError) as caught:
            await self.ask(model, **fields)
        return caught.value


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "name": name, "provider": name, "features": ["chat"], **fields}


@asynccontextmanager
async def world(**fields: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        made = World(await stack.enter_async_context(Upstream()), await stack.enter_async_context(Upstream()), **fields)
        made.a.plays(GOOD)
        made.b.plays(chat("Other"))
        try:
            yield made
        finally:
            await made.providers.aclose()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.retry.retry.BACKOFF_FIRST_S", 0.02)


async def test_an_answer_that_comes_is_asked_for_once() -> None:
    """Nothing is told but the asking."""
    async with world(fallbacks=["b"]) as w:
        assert await w.ask() == "Hello"
        assert w.listener.told == [("asking", "a")]
        assert len(w.a.asked) == 1


async def test_a_failure_is_tried_again() -> None:
    """500 twice and then an answer: one request for each attempt, with growing, jittered waits."""
    async with world() as w:
        w.a.plays(BROKEN, BROKEN, GOOD)
        assert await w.ask() == "Hello"
        asking = ("asking", "a")
        assert w.listener.told == [asking, ("retrying", 2), asking, ("retrying", 3), asking]
        assert len(w.a.asked) == 3
        assert 10 <= w.listener.waits[0] <= 20 <= w.listener.waits[1] <= 40


async def test_it_gives_up_after_so_many_attempts() -> None:
    """And says what the provider said last."""
    async with world(attempts=2, breaker_failures=9) as w:
        w.a.plays(BROKEN)
        assert (await w.failure()).code == "upstream_error"
        assert len(w.a.asked) == 2


async def test_a_connection_that_is_refused_is_tried_again() -> None:
    """Nobody listens there: as any other failure."""
    async with world(url=DOWN, fallbacks=["b"]) as w:
        assert await w.ask() == "Other"
        assert w.listener.told[-2:] == [("fallback", "b"), ("asking", "b")]
        assert [told[0] for told in w.listener.told].count("retrying") == 2


@pytest.mark.parametrize("status", [400, 404, 413, 422, 451])
async def test_what_the_request_is_to_blame_for_is_not_tried_again(status: int) -> None:
    """Neither with the same model nor with another."""
    async with world(fallbacks=["b"]) as w:
        w.a.plays(refusal(status, {"error": {"message": "content_filter" if status != 404 else "x"}}))
        if status == 404:
            assert await w.ask() == "Other", "a provider that has no such model is another matter"
        else:
            await w.failure()
            assert not w.b.asked
        assert len(w.a.asked) == 1


@bounds_a_time
async def test_retry_after_is_obeyed() -> None:
    """429 with Retry-After, then success: the wait is what was asked for, and a little more."""
    async with world() as w:
        w.a.plays(LIMITED, GOOD)
        began = asyncio.get_running_loop().time()
        assert await w.ask() == "Hello"
        took_s = asyncio.get_running_loop().time() - began
        assert took_s >= 0.2
        check_in_time(took_s, 2)
        assert 190 <= w.listener.waits[0] <= 260


@pytest.mark.parametrize(
    "fields", [{"deadline_s": 0.1}, {"wait_max_s": 0.1}, {"deadline_s": 0.1, "fallbacks": ["nowhere"]}]
)
async def test_a_wait_that_is_too_long_is_left_to_the_client(fields: dict[str, Any]) -> None:
    """Beyond the deadline or the bound: fail at once, with `retry_after_ms`."""
    async with world(**fields) as w:
        w.a.plays(LIMITED)
        error = await w.failure()
        assert (error.code, error.retryable, error.retry_after_ms) == ("upstream_rate_limited", True, 200)
        assert len(w.a.asked) == 1


@pytest.mark.parametrize("kind", [429, 503])
async def test_who_has_a_fallback_does_not_wait_long(kind: int) -> None:
    """A Retry-After above a few seconds: the other model is asked at once."""
    async with world(fallbacks=["b"]) as w:
        w.a.plays(refusal(kind, {"error": {"message": "slow"}}, retry_after="6"))
        assert await w.ask() == "Other"
        assert w.listener.told == [("asking", "a"), ("fallback", "b"), ("asking", "b")]


async def test_a_stalled_first_event_falls_back() -> None:
    """Silence has cost enough: the same model isn't asked again where there is another."""
    async with world(fallbacks=["b"], timeouts=Timeouts(first_event_s=0.2)) as w:
        w.a.plays(chat("x").but(stall_after=0))
        assert await w.ask() == "Other"
        assert (len(w.a.asked), len(w.b.asked)) == (1, 1)
        await asyncio.wait_for(w.a.asked[0].disconnected.wait(), 2)


async def test_a_stalled_first_event_without_a_fallback() -> None:
    """Is tried again like any other failure, unless it took too long for that."""
    async with world(timeouts=Timeouts(first_event_s=0.1)) as w:
        w.a.plays(chat("x").but(delay_s=9), GOOD)
        assert await w.ask() == "Hello"


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What took long to fail isn't asked the same again."""
    monkeypatch.setattr("providers.retry.retry.SLOW_FAILURE_S", 0.05)
    async with world(timeouts=Timeouts(first_event_s=0.1)) as w:
        w.a.plays(chat("x").but(delay_s=9), GOOD)
        assert (await w.failure()).code == "upstream_timeout"


async def test_nothing_after_the_first_delta_is_repeated() -> None:
    """An answer that breaks off is handed out as it is, whatever could still be asked."""
    async with world(fallbacks=["b"]) as w:
        w.a.plays(chat("Hel", "lo world").but(cut=150))
        deadline = asyncio.get_running_loop().time() + 9
        with pytest.raises(ProviderError) as caught:
            await w.resilience.answer(w.catalog.resolve("a"), w.listener, deadline)
        assert w.listener.said
        assert caught.value.code == "upstream_incomplete"
        assert (len(w.a.asked), len(w.b.asked)) == (1, 0)


async def test_an_answer_that_breaks_off_before_its_first_delta_is_repeated() -> None:
    """200, and then nothing, or a failure inside the stream."""
    async with world() as w:
        w.a.plays(chat(finish=None), refusal(200, {"error": {"message": "overloaded", "code": 503}}), GOOD)
        assert await w.ask() == "Hello"
        assert len(w.a.asked) == 3


async def test_an_empty_answer_is_an_answer() -> None:
    """A finish without a word isn't a failure."""
    async with world(fallbacks=["b"]) as w:
        w.a.plays(chat())
        assert await w.ask() == ""
        assert len(w.a.asked) == 1


async def test_keys_are_rotated_and_a_refused_one_rests() -> None:
    """401 for one key: the next is taken without a wait, and the first is left alone."""
    async with world(keys="one,two", attempts=1) as w:
        w.a.plays(REFUSED, GOOD)
        for _ in range(3):
            assert await w.ask() == "Hello"
        assert [asked.headers["authorization"] for asked in w.a.asked] == ["Bearer one", *["Bearer two"] * 3]
        assert w.listener.told[:3] == [("asking", "a"), ("retrying", 2), ("asking", "a")]
        assert w.listener.waits == [0]


async def test_when_every_key_rests_it_waits() -> None:
    """Limits pass: the turn waits for the first key that will do again."""
    async with world(keys="one,two") as w:
        w.a.plays(LIMITED, LIMITED, GOOD)
        assert await w.ask() == "Hello"
        assert [asked.headers["authorization"][-3:] for asked in w.a.asked] == ["one", "two", "one"]
        assert [told for told in w.listener.told if told[0] == "retrying"] == [("retrying", 2), ("retrying", 3)]
        assert w.listener.waits[0] == 0
        assert w.listener.waits[1] > 100


async def test_a_key_that_others_keep_busy_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that the key would do again another turn has reached its limit."""
    async with world(attempts=3) as w:
        ring = w.resilience._pools["a"]

        def limited(for_ms: int) -> None:
            error = ProviderError("upstream_rate_limited", "x", retryable=True, retry_after_ms=for_ms)
            ring.cool_down(ring._keys[0], "a", error)

        def told(attempt: int, delay_ms: int) -> None:
            w.listener.waits.append(delay_ms)
            limited(2 * delay_ms + 1000)

        monkeypatch.setattr(w.listener, "on_retry", told)
        await w.providers.load(w.catalog.resolve("a"))  # the SDK: its import would outlast the rest
        limited(200)
        error = await w.failure()
        assert (error.code, len(w.listener.waits), len(w.a.asked)) == ("upstream_rate_limited", 2, 0)


async def test_when_every_key_rests_too_long_nobody_is_asked() -> None:
    """The next turn is told when to come back, or falls back, without another request."""
    async with world(keys="one,two", fallbacks=["b"]) as w:
        w.a.plays(refusal(429, {"error": {"message": "slow"}}, retry_after="90"))
        assert await w.ask() == "Other"
        assert len(w.a.asked) == 2
        assert await w.ask() == "Other"
        assert len(w.a.asked) == 2
        assert w.listener.told[-2:] == [("fallback", "b"), ("asking", "b")]
        assert await w.ask("b") == "Other"
        w.a.plays(GOOD)
        assert await w.ask("a2") == "Hello", "a limit is a model's"


async def test_when_every_key_is_refused_one_is_tried() -> None:
    """A key that was mended where it is kept works again at once; the fallback goes first where there is one."""
    async with world() as w:
        w.a.plays(REFUSED)
        assert (await w.failure()).code == "upstream_auth"
        assert (await w.failure()).code == "upstream_auth"
        assert len(w.a.asked) == 2
        w.a.plays(GOOD)
        assert await w.ask() == "Hello"
    async with world(fallbacks=["b"]) as w:
        w.a.plays(REFUSED)
        assert [await w.ask(), await w.ask()] == ["Other", "Other"]
        assert len(w.a.asked) == 1


async def test_an_open_circuit_is_not_asked() -> None:
    """After so many failures the next turn is refused at once, or falls back, and says which."""
    async with world(breaker_failures=3, fallbacks=["b"]) as w:
        w.a.plays(BROKEN)
        assert await w.ask() == "Other"
        assert len(w.a.asked) == 3
        assert await w.ask() == "Other"
        assert len(w.a.asked) == 3
        w.listener.told.clear()
        error = await w.failure("a2")
        assert (error.code, error.retryable) == ("upstream_error", True)
        assert 0 < (error.retry_after_ms or 0) <= 30_000
        assert not w.listener.told
        assert len(w.a.asked) == 3


async def test_a_circuit_that_opens_ends_the_attempts() -> None:
    """There is no waiting for what won't be asked."""
    async with world(breaker_failures=1) as w:
        w.a.plays(BROKEN)
        assert (await w.failure()).code == "upstream_error"
        assert w.listener.told == [("asking", "a")]


async def test_a_half_open_circuit_sends_one_probe() -> None:
    """When its time is over one of many turns asks; if that works all may, if not nobody."""
    async with world(breaker_failures=1, breaker_open_s=0.1, attempts=1) as w:
        w.a.plays(BROKEN)
        await w.failure()
        await asyncio.sleep(0.11)
        w.a.plays(OVERLOADED.but(delay_s=0.05))
        failures = await asyncio.gather(*(w.failure() for _ in range(5)))
        assert len(w.a.asked) == 2, "one probe"
        assert {error.code for error in failures} == {"upstream_error", "upstream_overloaded"}
        await asyncio.sleep(0.11)
        w.a.plays(GOOD)
        assert await w.ask() == "Hello"
        assert list(await asyncio.gather(w.ask(), w.ask())) == ["Hello", "Hello"]


async def test_a_probe_that_is_cancelled_leaves_room_for_another() -> None:
    """Stopped before its answer it has said nothing of the provider."""
    async with world(breaker_failures=1, breaker_open_s=0.1, attempts=1) as w:
        w.a.plays(BROKEN, GOOD.but(delay_s=9), GOOD)
        await w.failure()
        await asyncio.sleep(0.11)
        asking = asyncio.get_running_loop().create_task(w.ask())
        await w.a.next_asked(2)
        asking.cancel()
        await asyncio.wait([asking])
        assert await w.ask() == "Hello"


@pytest.mark.parametrize("moment", ["waiting", "asking"])
@bounds_a_time
async def test_a_cancel_stops_it_at_once(moment: str) -> None:
    """During a wait, and before the provider has said anything: nothing is asked after it."""
    async with world(fallbacks=["b"]) as w:
        w.a.plays(refusal(429, {}, retry_after="4") if moment == "waiting" else GOOD.but(delay_s=9))
        asking = asyncio.get_running_loop().create_task(w.ask())
        asked = await w.a.next_asked(1)
        if moment == "waiting":
            async with asyncio.timeout(5):
                while not w.listener.waits:
                    await asyncio.sleep(0.01)
        with within(1):
            asking.cancel()
            await asyncio.wait([asking])
        assert asking.cancelled()
        if moment == "asking":
            await asyncio.wait_for(asked.disconnected.wait(), 2)
        assert (len(w.a.asked), len(w.b.asked)) == (1, 0)


async def test_a_chain_of_fallbacks() -> None:
    """In their order; one that can't be used or can't take the request is skipped, and nobody hears of it."""
    async with world(fallbacks=["nowhere", "c", "b"], attempts=1) as w:
        w.a.plays(BROKEN)
        w.listener = Listener(refuses="c")
        assert await w.ask() == "Other"
        assert w.listener.told == [("asking", "a"), ("fallback", "b"), ("asking", "b")]


async def test_when_all_fail_the_first_failure_counts(caplog: pytest.LogCaptureFixture) -> None:
    """The client wanted that model; the log has the others."""
    async with world(fallbacks=["b"], attempts=1) as w:
        w.a.plays(OVERLOADED)
        w.b.plays(REFUSED)
        with caplog.at_level(logging.WARNING):
            assert (await w.failure()).code == "upstream_overloaded"
        assert "'model': 'b', 'code': 'upstream_auth'" in caplog.text
        assert w.listener.told == [("asking", "a"), ("fallback", "b"), ("asking", "b")]


async def test_what_goes_on_from_something_said_is_asked_once() -> None:
    """Neither retried nor given to another model: its first part is known to clients."""
    async with world(fallbacks=["b"]) as w:
        w.a.plays(BROKEN)
        assert (await w.failure(once=True)).code == "upstream_error"
        assert w.listener.told == [("asking", "a")]
        assert (len(w.a.asked), len(w.b.asked)) == (1, 0)


async def test_the_demo_fails_as_it_is_told() -> None:
    """Its failures are wanted: no retry makes them another's."""
    resilience = RetryingClient(Providers(Catalog({})), Retries(attempts=3, breaker_failures=1))
    listener = Listener()
    listener._question = question(demo={"fail": "overloaded"})
    listener.on_request = lambda route, question: listener.told.append(("asking", route.id))  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(ProviderError, match="as requested"):
            await resilience.answer(Catalog({}).resolve("demo"), listener, 1e9)
    assert listener.told == [("asking", "demo")] * 2


async def test_the_demo_as_a_fallback() -> None:
    """It has no keys and no circuit, and answers where the others fail."""
    async with world(fallbacks=["demo"], attempts=1) as w:
        w.a.plays(BROKEN)
        w.listener._question = question(demo={"text": "I am here."})
        w.listener.on_request = lambda route, question: None  # type: ignore[method-assign]
        assert await w.ask() == "I am here."
        assert w.listener.told == [("fallback", "demo")]


async def test_an_answer_with_a_cursor_has_begun() -> None:
    """Law 9: what another instance could go on with is handed out before its first word, and isn't asked for twice."""

    async def slow(request: ChatRequest) -> AsyncIterator[list[Delta]]:
        yield [ResponseHandle("m", "resp_1")]
        await asyncio.get_running_loop().create_future()

    resilience = RetryingClient(ScriptedProviders(slow), Retries())
    listener = Listener()
    async with asyncio.TaskGroup() as tasks:
        answering = tasks.create_task(resilience.answer(Catalog({}).resolve("demo"), listener, 1e9))
        while not listener.said:
            await asyncio.sleep(0)
        answering.cancel()
    assert listener.said == [ResponseHandle("m", "resp_1")]
