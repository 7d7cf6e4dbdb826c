"""`AbortController` and `AbortSignal`."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from turnwire.client import AbortController, Aborted, AbortSignal
from turnwire.client.abort import reason_text


async def test_one_signal_tells_all_listeners_once() -> None:
    """Those that were removed aren't called, and one that comes too late is called soon."""
    controller = AbortController()
    signal = controller.signal
    calls: list[str] = []
    signal.listen(lambda: calls.append("a"))
    signal.listen(lambda: calls.append("b"))()
    assert not signal.aborted
    signal.throw_if_aborted()
    controller.abort("why")
    controller.abort("again")
    signal.listen(lambda: calls.append("late"))
    await asyncio.sleep(0)
    assert calls == ["a", "late"]
    assert (signal.aborted, signal.reason) == (True, "why")
    assert await signal.wait() == "why"
    with pytest.raises(Aborted) as raised:
        signal.throw_if_aborted()
    assert raised.value.reason == "why"


async def test_a_timeout_needs_no_timer_until_something_listens() -> None:
    """`aborted` compares the clock. The reason is a TimeoutError."""
    signal = AbortSignal.timeout(0.03)
    assert not signal.aborted
    assert signal.reason is None
    await asyncio.wait_for(signal.wait(), 5)
    assert isinstance(signal.reason, TimeoutError)
    unheard = AbortSignal.timeout(0)
    assert unheard.aborted
    assert AbortSignal.any([AbortSignal.timeout(60), unheard]).aborted


async def test_any_follows_its_sources_also_of_another_thread() -> None:
    """The first source gives the reason. Nothing stays with a source when the listener is removed."""
    controllers = [AbortController(), AbortController()]
    either = AbortSignal.any([controllers[0].signal, AbortSignal.any([controllers[1].signal, AbortSignal.timeout(60)])])
    either.listen(lambda: None)()
    assert not controllers[1].signal._listeners
    waits = asyncio.ensure_future(either.wait())
    await asyncio.sleep(0)
    threading.Timer(0.01, lambda: controllers[1].abort("thread")).start()
    assert await asyncio.wait_for(waits, 5) == "thread"
    assert either.reason == "thread"
    assert not controllers[0].signal._listeners


def test_a_signal_outlives_the_loop_that_listened() -> None:
    """Aborting it later calls nobody, and raises nothing."""
    controller = AbortController()

    async def listen() -> None:
        controller.signal.listen(lambda: None)

    asyncio.run(listen())
    controller.abort(ValueError("x"))
    gc.collect()


class _Bad:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (None, None),
        ("", None),
        ("why", "why"),
        (ValueError("bad"), "bad"),
        (ValueError(), "ValueError"),
        (_Bad(), "_Bad"),
        ("x" * 400, "x" * 300),
        ("half \ud83d", "half ?"),
        (7, "7"),
    ],
)
def test_reasons_as_text(reason: object, text: str | None) -> None:
    """Any object has a text of at most 300 whole characters, or none."""
    assert reason_text(reason) == (text or None)


def test_reading_a_signal_is_cheap() -> None:
    """A thousand signals are combined and read in a moment."""
    signals = [AbortController().signal for _ in range(1000)]
    began = time.process_time()
    assert not AbortSignal.any(signals).aborted
    assert time.process_time() - began < 1
