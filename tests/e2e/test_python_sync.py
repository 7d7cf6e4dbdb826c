"""The blocking client against a gateway process: calls in threads, callbacks, tools, an interrupt and a fork."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.demo import expected
from tests.fault_proxy import fault_proxy
from tests.gateway_process import ROOT, GatewayProcess, clean_environment, gateway_process
from turnwire.client import AbortController, CallbackFailed, ConnectionClosed, Message, TurnwireError
from turnwire.client.sync import Turn, connect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

FAST = {"demo": {"rate": 0, "tokens": 300}}
SLOW = {"demo": {"rate": 20, "tokens": 5000}}

PROGRAM = """
import gc, os, signal, sys, threading
from turnwire.client import WrongProcess
from turnwire.client.sync import connect

with connect(sys.argv[1]) as gateway:
    turn = gateway.start("Hello", params={"demo": {"rate": 50, "tokens": 100}})
    read = []
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        for event in turn:
            read.append(event)
        raise AssertionError("not interrupted")
    except KeyboardInterrupt:
        pass
    pid = os.fork()
    if pid == 0:
        try:
            gateway.models()
        except WrongProcess:
            pass
        with connect(sys.argv[1]) as own:
            assert own.models().default == "demo"
if pid == 0:
    del gateway, turn, own
    gc.collect()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
with connect(sys.argv[1]) as gateway:
    left = gateway.start("A turn that nobody ends", params={"demo": {"rate": 1}})
    next(iter(left))
    gateway = connect(sys.argv[1])  # never closed
print(len(read))
"""
"""Interrupts a wait, forks, and ends with a connection open."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """A gateway without auth, whose model is `demo`."""
    async with gateway_process(tmp_path_factory.mktemp("gateway"), {"TURNWIRE_DRAIN_S": "1"}) as process:
        yield process


async def test_calls_wait_in_any_thread(served: GatewayProcess) -> None:
    """Turns in several threads stream on one connection, one signal stops two of them, and after the close nothing runs."""

    def scene() -> None:
        threads = threading.active_count()
        with connect(served.url, codec="msgpack") as gateway:
            texts: dict[int, str] = {}

            def ask(number: int) -> None:
                texts[number] = "".join(gateway.start(f"Hello {number}", params=FAST).text())

            asking = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join()
            assert texts == {number: expected(f"Hello {number}", FAST["demo"]) for number in range(5)}

            stop = AbortController()
            turns = [gateway.start("Hello", params=SLOW, signal=stop.signal) for _ in range(2)]
            next(turns[0].text())
            with pytest.raises(TimeoutError):
                turns[0].result(timeout=0.05)
            stop.abort("enough")
            assert [(turn.result().status, turn.result().reason) for turn in turns] == [("cancelled", "enough")] * 2
            with pytest.raises(TurnwireError) as failed:
                gateway.start("Hello", model="nope").result()
            assert failed.value.code == "model_not_found"

            conversation = gateway.create_conversation("sync", title="Blocking")
            first = conversation.start("Hello", params=FAST).result()
            assert next(message.id for message in conversation.messages(limit=1)) == first.id
            assert [message.role for message in conversation.messages(limit=1).all()] == ["user", "assistant"]
            assert "Blocking" in [record.title for record in gateway.conversations(limit=2)]
            last = gateway.start("Hello", params=SLOW)
            waiting = iter(last)
            next(waiting)
        with pytest.raises(ConnectionClosed):
            gateway.models()
        assert last.id
        assert threading.active_count() == threads

    await asyncio.to_thread(scene)


async def test_callbacks_and_tools_may_wait(served: GatewayProcess) -> None:
    """They run in threads of their own, so they can use the same connection. An exception in one is an error of the turn."""

    def scene() -> None:
        with connect(served.url) as gateway:
            chunks: list[str] = []
            ended: list[Message | TurnwireError] = []

            def on_chunk(text: str) -> None:
                chunks.append(text)
                if len(chunks) == 1:
                    assert gateway.models().default == "demo"

            turn = gateway.send(
                {"input": "Hello", "params": FAST}, on_chunk=on_chunk, on_complete=ended.append, on_error=ended.append
            )
            assert turn.result().text == expected("Hello", FAST["demo"])
            failing = gateway.send(
                {"input": "Hello", "params": SLOW}, on_chunk=lambda _: chunks[10**9], on_error=ended.append
            )
            with pytest.raises(CallbackFailed) as failed:
                failing.result()
            assert isinstance(failed.value.__cause__, IndexError)

            called: list[str] = []
            shown: list[str] = []

            def look(place: str = "Oslo") -> str:
                """Look."""
                called.append(gateway.models().default)
                return place

            def on_turn(turn: Turn) -> None:
                shown.append("".join(turn.text()))

            demo = {"demo": {"rate": 0, "text": "Look.", "tool": True}}
            with pytest.raises(TurnwireError, match="2 turns in a row"):
                gateway.run("Hello", tools=[look], params=demo, max_rounds=2, on_turn=on_turn)
            assert called == ["demo"] * 2
            assert shown == ["Look."] * 2
        assert "".join(chunks).startswith(expected("Hello", FAST["demo"]))
        assert [type(one) for one in ended] == [Message, CallbackFailed]

    await asyncio.to_thread(scene)


async def test_callbacks_that_wait_do_not_keep_a_token_from_being_renewed(served: GatewayProcess) -> None:
    """A new socket needs a token from the program, also while as many callbacks wait as there are threads for them."""
    loop = asyncio.get_running_loop()
    async with fault_proxy(int(served.url.rpartition(":")[2])) as proxy:

        def drop() -> None:
            proxy.refuse()
            proxy.restore()

        def scene() -> None:
            with connect(f"http://127.0.0.1:{proxy.port}", token=lambda: "unchecked") as gateway:
                dropped = threading.Event()
                entered = threading.Semaphore(0)

                def on_complete(_: Message) -> None:
                    entered.release()
                    dropped.wait(20)
                    gateway.models()

                workers = min(32, (os.cpu_count() or 1) + 4)
                turns = [
                    gateway.send(
                        {"input": "Hello", "params": {"demo": {"rate": 0, "tokens": 1}}}, on_complete=on_complete
                    )
                    for _ in range(workers)
                ]
                for _ in turns:
                    assert entered.acquire(timeout=20)
                loop.call_soon_threadsafe(drop)
                while gateway.state.state == "live":
                    time.sleep(0.01)
                dropped.set()
                for turn in turns:
                    assert turn.result(timeout=20).status == "completed"

        await asyncio.to_thread(scene)


async def test_an_interrupt_and_a_fork(served: GatewayProcess, tmp_path: Path) -> None:
    """A program is interrupted, forks, and ends with an open connection, without a warning."""
    pipe = asyncio.subprocess.PIPE
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "clients" / "python")))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM, served.url),
        env=clean_environment({"PYTHONPATH": paths}),
        cwd=tmp_path,
        stdout=pipe,
        stderr=pipe,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, errors.decode()) == (0, "")
    assert int(output) > 1
