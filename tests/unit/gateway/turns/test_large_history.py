"""Law 11: how long a turn with megabytes of history holds the event loop, with each store and with two providers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.client import client
from tests.in_loop_server import serving
from tests.redis_process import redis_process
from tests.upstream import Upstream, chat, messages

TURNS, TURN_BYTES = 70, 60_000
HISTORY_BYTES = TURNS * TURN_BYTES
TURN_HELD_S = 0.05
"""The longest allowed step of a turn, in seconds of CPU time. The encoding of the body by a provider's SDK takes 0.02."""
CONTEXT_HELD_S = 0.005
"""The same for the reading, trimming and counting of the context alone. In the loop it would take 0.01."""
MODELS = """
[[models]]
id = "chat-model"
provider = "kimi"
features = ["chat", "streaming"]
context_window = 4000000

[[models]]
id = "messages-model"
provider = "anthropic"
features = ["chat", "streaming"]
context_window = 4000000
"""


class Steps:
    """The longest step of the event loop since `longest_s` was set to 0, in seconds of its thread's CPU time."""

    longest_s = 0.0


@contextmanager
def measured_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Measure every step of the event loop: of each task, of each callback and of each read of a socket."""
    steps = Steps()
    run = asyncio.Handle._run

    def measured_run(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        if threading.current_thread() is threading.main_thread():
            steps.longest_s = max(steps.longest_s, time.thread_time() - began)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.Handle, "_run", measured_run)
        yield steps


@contextmanager
def upstream_in_thread() -> Iterator[Upstream]:
    """Run the provider in a loop of its own, so that its steps aren't those of the gateway."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    upstream = Upstream()
    asyncio.run_coroutine_threadsafe(upstream.__aenter__(), loop).result()
    try:
        yield upstream
    finally:
        asyncio.run_coroutine_threadsafe(upstream.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("store", ["memory", "sqlite", "redis"])
async def test_law_11_a_long_history_holds_the_loop_in_short_steps(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 11: with 4 MB of history, no step of a turn or of an estimate holds the loop for long. The provider gets all
    of the history."""
    file = tmp_path / "models.toml"
    file.write_text(MODELS)
    with redis_process(tmp_path / "redis") if store == "redis" else nullcontext() as redis:
        urls = {"memory": "sqlite:///:memory:", "sqlite": f"sqlite:///{tmp_path}/x.db"}
        with upstream_in_thread() as upstream:
            environment = {
                **{"KIMI_API_KEY": "k", "KIMI_BASE_URL": upstream.openai_url},
                **{"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": upstream.anthropic_url},
            }
            url = urls[store] if redis is None else redis.url
            settings: dict[str, Any] = {"store": url, "models": str(file), "turn_log_ttl_s": 0}
            async with serving(environment, **settings) as server, client(server.ws_url) as c:
                conversation: dict[str, Any] = {}
                for n in range(TURNS):
                    text = f"{n} " + "w\u00f6rd " * (TURN_BYTES // 6)
                    demo = {"model": "demo", "params": {"demo": {"rate": 0, "text": "Yes."}}}
                    result = await c.request("turn.start", turn=f"t{n}", input=text, **demo, **conversation)
                    conversation = {"conversation": result["conversation"]}
                    await c.ending(f"t{n}")
                for model, answer in (("chat-model", chat("Yes.")), ("messages-model", messages("Yes."))):
                    with measured_steps(monkeypatch) as steps:
                        held_s = []
                        for n in range(3):  # the first request of a provider imports its SDK
                            upstream.play(answer)
                            steps.longest_s = 0.0
                            await c.request(
                                "turn.start", turn=f"{model}{n}", input="And now?", model=model, **conversation
                            )
                            assert (await c.ending(f"{model}{n}"))["type"] == "turn.completed"
                            held_s.append(steps.longest_s)
                            steps.longest_s = 0.0
                            await c.request("turn.estimate", input="And now?", model=model, **conversation)
                            held_s.append(steps.longest_s)
                    # On a busy machine, some of them may have the collection of garbage in a step.
                    assert min(held_s[::2][1:]) < TURN_HELD_S, model
                    assert min(held_s[1::2]) < CONTEXT_HELD_S, model
                    assert len(json.dumps(upstream.requests[-1].body)) > HISTORY_BYTES
